"""What runs compiled packages: a Kubeflow Pipelines API, or this machine. Who follows a run needs to know no more."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from core.errors import ConfigError
from schemas.base import Record

if TYPE_CHECKING:
    from pipeline.kubeflow.package import Package

RunState = Literal["pending", "running", "succeeded", "failed", "cancelled"]
TaskState = Literal["pending", "running", "succeeded", "failed", "skipped"]
OVER: frozenset[RunState] = frozenset({"succeeded", "failed", "cancelled"})


class InvalidRequestError(ConfigError):
    """The cluster refuses what is asked, such as a package or its values, and always will; nothing was started."""


class TaskRun(Record):
    """One task of a run.

    Attributes:
        node_id: Id of the node in the DAG.
        error: What the cluster says of its failure, if it says anything.
    """

    node_id: str
    state: TaskState
    error: str | None = None


class ClusterRun(Record):
    """A run as the cluster sees it.

    Attributes:
        id: The cluster's own id.
        name: The plan's run id.
        tasks: Those that have begun, in order of their beginning.
        error: What the cluster says of the run's failure, if it says anything.
        package: Name of the version that was run, if known.
        parameters: Values of its runtime parameters.
    """

    id: str
    name: str
    state: RunState
    tasks: tuple[TaskRun, ...] = ()
    error: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    package: str | None = None
    parameters: dict[str, str | int] = {}


class Cluster(Protocol):
    """What runs packages. Every method may be repeated."""

    def submit(self, package: "Package", *, run_name: str, parameters: Mapping[str, str | int]) -> str:
        """Start the run of that name, or find it where it was started before; return the cluster's id of it."""

    def find(self, run_name: str) -> str | None:
        """Return the cluster's id of the run of that name, or None where none was started."""

    def run(self, run_id: str) -> ClusterRun:
        """Return a run as it stands."""

    def retry(self, run_id: str) -> None:
        """Start the failed tasks of a failed or cancelled run again; what succeeded stays."""

    def cancel(self, run_id: str) -> None:
        """Stop a run and return when none of its tasks goes on; one that is over is left alone."""

    def url(self, run_id: str) -> str:
        """Return where a person looks at the run: a page, or a folder of logs."""
