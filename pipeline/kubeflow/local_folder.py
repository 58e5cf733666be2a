"""The folder of a run on this machine: what it runs, how far each task is, and who runs it now."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from core.errors import LeaseHeldError
from core.files import write_text_atomically
from pipeline.kubeflow.cluster import ClusterRun, RunState, TaskRun, TaskState
from pipeline.kubeflow.executor_input import RunFacts, TaskOutputs
from pipeline.kubeflow.package_spec import PackageSpec, TaskSpec
from schemas.base import Record

DEAD = "The process that ran it is gone."


class RunRecord(Record):
    """A run, as kept in `run.json`.

    Attributes:
        facts: What its tasks may ask about it.
        package_digest: Digest of the package that it runs.
        version_name: Name of the package's version, if it has one.
        store: Folder that plays the object store.
    """

    facts: RunFacts
    package_digest: str
    version_name: str | None = None
    store: str
    state: RunState = "pending"
    error: str | None = None
    finished_at: datetime | None = None


class TaskRecord(Record):
    """A task, as kept in `state.json` in its folder.

    Attributes:
        attempts: How often it was started, over all calls.
        exit_code: Of its last attempt.
        process: Process id and time of creation of its attempt, so that one whose parent was killed is found.
        started_at: When its last attempt, or its being skipped, began.
        outputs: What it gave.
    """

    state: TaskState = "pending"
    attempts: int = 0
    exit_code: int | None = None
    error: str | None = None
    process: tuple[int, float] | None = None
    started_at: datetime | None = None
    outputs: TaskOutputs = TaskOutputs()


class RunFolder:
    """Where a run keeps `package.yaml`, `run.json` and a folder for each task.

    Args:
        path: The folder; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def package_path(self) -> Path:
        """The package, as it was given."""
        return self.path / "package.yaml"

    def task_path(self, task: TaskSpec) -> Path:
        """Return the folder of a task."""
        return self.path / "tasks" / task.name

    def log_path(self, task: TaskSpec) -> Path:
        """Return the file that a task's output goes to."""
        return self.task_path(task) / "log"

    def exists(self) -> bool:
        """Whether a run was ever prepared here."""
        return (self.path / "run.json").is_file()

    def record(self) -> RunRecord:
        """Return the run."""
        return RunRecord.model_validate_json((self.path / "run.json").read_text(encoding="utf-8"))

    def write(self, record: RunRecord) -> None:
        """Keep the run."""
        write_text_atomically(self.path / "run.json", record.model_dump_json(indent=1))

    def task(self, task: TaskSpec) -> TaskRecord:
        """Return a task as it stands."""
        path = self.task_path(task) / "state.json"
        return TaskRecord.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else TaskRecord()

    def write_task(self, task: TaskSpec, record: TaskRecord) -> None:
        """Keep a task."""
        write_text_atomically(self.task_path(task) / "state.json", record.model_dump_json(indent=1))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes and threads from running the same run.

        Raises:
            LeaseHeldError: one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LeaseHeldError(
                    f"The run in {self.path} goes on in another process. Expected to be alone there. Wait until it is "
                    "over, or choose another --root."
                ) from error
            yield
        finally:
            os.close(descriptor)

    def view(self, package: PackageSpec) -> ClusterRun:
        """Return the run as a cluster would show it; one whose process was killed has failed."""
        record = self.record()
        is_dead = record.state == "running" and not self._is_held()
        if is_dead:
            # Or it came to its end since then.
            record = self.record()
            is_dead = record.state == "running"
        tasks = [(task, self.task(task)) for task in package.tasks]
        begun = sorted((one.started_at, task.node_id, one) for task, one in tasks if one.started_at is not None)
        return ClusterRun(
            id=record.facts.name,
            name=record.facts.name,
            state="failed" if is_dead else record.state,
            tasks=tuple(TaskRun(node_id=node_id, state=one.state, error=one.error) for _, node_id, one in begun),
            error=DEAD if is_dead else record.error,
            created_at=record.facts.created_at,
            finished_at=record.finished_at,
            package=record.version_name,
            parameters={name: value for name, value in record.facts.parameters.items() if isinstance(value, str | int)},
        )

    def _is_held(self) -> bool:
        """Tell whether somebody runs it; for that moment nobody else can begin to, so ask only of what seems to run."""
        try:
            with self.held():
                return False
        except LeaseHeldError:
            return True
