"""Run a compiled package on this machine, task by task, as a cluster would: to find out here why it failed there."""

import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from core.clock import Clock, SystemClock
from core.digests import digest_of_bytes
from core.errors import ConfigError, NodeError, StoppedError
from core.files import write_text_atomically
from pipeline.kubeflow.cluster import ClusterRun, RunState, TaskRun
from pipeline.kubeflow.executor_input import RunFacts
from pipeline.kubeflow.local_folder import RunFolder, RunRecord, TaskRecord
from pipeline.kubeflow.local_store import LocalStore
from pipeline.kubeflow.local_task import TaskRunner, log_tail
from pipeline.kubeflow.package_spec import PackageSpec, TaskSpec, read_package
from pipeline.kubeflow.runtime_parameters import complete_parameters
from pipeline.kubeflow.uris import is_remote
from schemas.base import Record

# Where KFP keeps artifacts unless it is told otherwise.
DEFAULT_PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"
_DONE = frozenset({"succeeded", "skipped"})


class LocalOptions(Record):
    """How a package is run on this machine.

    Attributes:
        max_parallel: How many tasks run at a time.
        skip: Tasks that do not run; what needs them does not either.
        only: The one task that runs, from what the others left behind at an earlier call.
    """

    max_parallel: int = 2
    skip: tuple[str, ...] = ()
    only: str | None = None


def _ignore(_: TaskRun) -> None:
    """Tell nobody."""


def run_package(
    text: str,
    *,
    parameters: Mapping[str, Any],
    root: Path,
    run_name: str,
    pipeline_root: str = "",
    options: LocalOptions | None = None,
    on_task: Callable[[TaskRun], None] = _ignore,
    stop: threading.Event | None = None,
) -> ClusterRun:
    """Run a package to its end or its first failure; what succeeded in an earlier call with the same root stays.

    Args:
        text: The package.
        parameters: Values of its runtime parameters.
        root: Folder of the run: each task's folder, and the object store.
        run_name: Name of the run, as KFP would have it.
        pipeline_root: Where artifacts lie: a URI, played by a folder below `root`, or a folder; empty: as the package
            says, or KFP's default.
        options: How many at a time, and which.
        on_task: Told when a task starts, ends or is skipped.
        stop: Set it, and all tasks are ended.

    Raises:
        ConfigError: package, parameters or options do not fit; nothing was started.
        NodeError: a task failed.
        StoppedError: `stop` was set.
        LeaseHeldError: somebody runs it already.
    """
    folder = prepare_run(text, parameters=parameters, root=root, run_name=run_name, pipeline_root=pipeline_root)
    return go_on(folder, options=options, on_task=on_task, stop=stop)


def prepare_run(
    text: str,
    *,
    parameters: Mapping[str, Any],
    root: Path,
    run_name: str,
    pipeline_root: str = "",
    store: Path | None = None,
    version_name: str | None = None,
) -> RunFolder:
    """Check a run and write down what it is, or find it where that was done before.

    Args:
        text: The package.
        parameters: Values of its runtime parameters.
        root: Folder of the run.
        run_name: Its name.
        pipeline_root: Where artifacts lie.
        store: Folder that plays the object store, where several runs share one.
        version_name: Name of the package's version.

    Raises:
        ConfigError: package and parameters do not fit, or the folder belongs to another run.
    """
    package = read_package(text)
    completed = complete_parameters(package.parameters, parameters)
    folder = RunFolder(root)
    places = pipeline_root or package.default_pipeline_root or DEFAULT_PIPELINE_ROOT
    record = RunRecord(
        facts=RunFacts(
            name=run_name,
            pipeline=package.name,
            parameters=completed,
            pipeline_root=places if is_remote(places) else str(Path(places).absolute()),
            created_at=SystemClock().now(),
        ),
        package_digest=digest_of_bytes(text.encode()),
        version_name=version_name,
        store=str((store or folder.path / "store").absolute()),
    )
    if folder.exists():
        _check_same(folder, record)
        return folder
    write_text_atomically(folder.package_path, text)
    folder.write(record)
    return folder


def go_on(
    folder: RunFolder,
    *,
    options: LocalOptions | None = None,
    on_task: Callable[[TaskRun], None] = _ignore,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> ClusterRun:
    """Run what has not succeeded yet of a run that was prepared; arguments and errors as in `run_package`."""
    options, stop, clock = options or LocalOptions(), stop or threading.Event(), clock or SystemClock()
    package = read_package(folder.package_path.read_text(encoding="utf-8"))
    with folder.held():
        record = folder.record()
        runner = TaskRunner(
            folder=folder,
            facts=record.facts,
            store=LocalStore(Path(record.store)),
            first_ids=_first_ids(package.tasks),
            stop=stop,
            clock=clock,
        )
        schedule = _Schedule(package, runner, options, on_task)
        schedule.check()
        folder.write(record.model_copy(update={"state": "running", "error": None, "finished_at": None}))
        state: RunState = "failed"
        error: NodeError | StoppedError | None = None
        try:
            failed = schedule.run()
            if stop.is_set():
                state = "cancelled"
                error = StoppedError(f"The run was stopped. What succeeded stays: {_go_on_sentence(folder)}")
            elif failed:
                error = _failure(folder, failed)
            else:
                state = "succeeded" if schedule.is_complete() else "pending"
        finally:
            said = None if error is None else str(error)
            folder.write(record.model_copy(update={"state": state, "error": said, "finished_at": clock.now()}))
    if error is not None:
        raise error
    return folder.view(package)


class _Schedule:
    """One pass over the tasks: each starts once all before it have succeeded, none after one has failed.

    Argo would still start what does not depend on it. Here somebody waits to see the failure.
    """

    def __init__(
        self, package: PackageSpec, runner: TaskRunner, options: LocalOptions, on_task: Callable[[TaskRun], None]
    ) -> None:
        self._tasks = package.tasks
        self._runner = runner
        self._options = options
        self._on_task = on_task
        self._folder = runner.folder
        self._stop = runner.stop
        self._only = package.task_named(options.only) if options.only else None
        self._skipped = {package.task_named(name).name for name in options.skip}
        self._records = {task.name: runner.folder.task(task) for task in package.tasks}

    def check(self) -> None:
        """Refuse to run a single task whose inputs are not there.

        Raises:
            ConfigError: a task before it has not succeeded.
        """
        if self._only is None:
            return
        missing = sorted(name for name in self._only.upstream if self._records[name].state != "succeeded")
        if missing:
            raise ConfigError(
                f"Task {self._only.node_id!r} cannot run alone: tasks before it have not succeeded: {missing}. "
                f"Expected their outputs in {self._folder.path}. Run once without --only, or give the --root of a run."
            )

    def is_complete(self) -> bool:
        """Tell whether no task is left."""
        return all(record.state in _DONE for record in self._records.values())

    def run(self) -> list[TaskSpec]:
        """Run until nothing is left that could; return the tasks that failed."""
        waiting = [self._only] if self._only else [one for one in self._tasks if not self._has_succeeded(one)]
        running: dict[Future[TaskRecord], TaskSpec] = {}
        failed: list[TaskSpec] = []
        with ThreadPoolExecutor(self._options.max_parallel) as pool:
            try:
                while True:
                    if not failed and not self._stop.is_set():
                        waiting = self._begin(waiting, running, pool)
                    if not running:
                        return failed
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    failed += [task for future in done if self._ended(task := running.pop(future), future.result())]
            except KeyboardInterrupt:
                return failed
            finally:
                if running:
                    self._stop.set()

    def _begin(
        self, waiting: Sequence[TaskSpec], running: dict[Future[TaskRecord], TaskSpec], pool: ThreadPoolExecutor
    ) -> list[TaskSpec]:
        """Start, or skip, what can be; return what waits on."""
        still = []
        for task in waiting:
            before = {self._records[name].state for name in task.upstream}
            if task.name in self._skipped or (self._only is None and "skipped" in before):
                self._keep(task, TaskRecord(state="skipped", started_at=self._runner.clock.now()))
            elif before <= {"succeeded"} and len(running) < self._options.max_parallel:
                outputs = {name: record.outputs for name, record in self._records.items()}
                self._records[task.name] = TaskRecord(state="running")
                self._on_task(TaskRun(node_id=task.node_id, state="running"))
                running[pool.submit(self._runner.run, task, outputs)] = task
            else:
                still.append(task)
        return still

    def _ended(self, task: TaskSpec, record: TaskRecord) -> bool:
        """Note how a task ended; tell whether it failed."""
        self._records[task.name] = record
        self._on_task(TaskRun(node_id=task.node_id, state=record.state, error=record.error))
        return record.state == "failed"

    def _keep(self, task: TaskSpec, record: TaskRecord) -> None:
        self._folder.write_task(task, record)
        self._ended(task, record)

    def _has_succeeded(self, task: TaskSpec) -> bool:
        return self._records[task.name].state == "succeeded"


def _first_ids(tasks: Sequence[TaskSpec]) -> dict[str, int]:
    """Number all artifacts of a run, the same ones in every call."""
    first, numbers = 1, {}
    for task in tasks:
        numbers[task.name] = first
        first += len(task.component.output_definitions.artifacts)
    return numbers


def _check_same(folder: RunFolder, record: RunRecord) -> None:
    before = folder.record()
    then, now = before.facts, record.facts
    differences = {
        "the package": before.package_digest != record.package_digest,
        "the run's name": then.name != now.name,
        "the pipeline root": then.pipeline_root != now.pipeline_root,
        **{f"parameter {name!r}": then.parameters.get(name) != value for name, value in now.parameters.items()},
    }
    if different := [what for what, is_different in differences.items() if is_different]:
        raise ConfigError(
            f"The folder {folder.path} belongs to a run that differs in {', '.join(different)}. Expected the run that "
            "was begun there. Give what it was begun with, or choose another --root."
        )


def _failure(folder: RunFolder, failed: Sequence[TaskSpec]) -> NodeError:
    task, *others = failed
    record = folder.task(task)
    log = folder.log_path(task)
    also = f" So did {[other.node_id for other in others]}." if others else ""
    ran = record.exit_code is not None
    lines = "\n".join(f"  {line}" for line in log_tail(log)) if ran and log.is_file() else ""
    shown = f" Its log, {log}, ends with:\n{lines}\n" if lines else " "
    again = f"Run it again alone with --only {shlex.quote(task.node_id)} --root {shlex.quote(str(folder.path))}"
    by_hand = f", or by hand with {shlex.quote(str(folder.task_path(task) / 'command.sh'))}" if ran else ""
    return NodeError(
        f"Task {task.node_id!r} failed: {str(record.error).rstrip('.')}.{also}{shown}{again}{by_hand}; then "
        f"{_go_on_sentence(folder)}"
    )


def _go_on_sentence(folder: RunFolder) -> str:
    return f"the same command with --root {shlex.quote(str(folder.path))} goes on there."
