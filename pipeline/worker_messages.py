"""What the daemon and its worker process say to one another: one JSON document a line, over a pipe each way.

The daemon sends `Setup` once, then one job at a time. The process says `Ready` when it is warm. While a job runs it
sends `Ask`s to whoever observes the DAG, each of which waits for its `Answer`; `Done` ends the job.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from core import errors
from core.errors import PipelineError
from pipeline.config import Config, RunnerName
from pipeline.decision import Decision
from pipeline.failures import failure_of
from pipeline.plan import RunPlan
from pipeline.record import Outcome
from schemas.base import Record


class WireError(Record):
    """A failure on its way to the other process, where it is raised again.

    Attributes:
        error_class: Name of a class of `core.errors`; None: no failure of ours, a bug.
        text: Its sentence.
    """

    error_class: str | None
    text: str

    @classmethod
    def of(cls, error: Exception) -> "WireError":
        """Describe a failure by the nearest class that both processes know."""
        ours = failure_of(error)
        if ours is not error and not ours.retryable:
            return cls(error_class=None, text=f"{type(error).__name__}: {error}")
        known = next(kind for kind in type(ours).__mro__ if getattr(errors, kind.__name__, None) is kind)
        return cls(error_class=known.__name__, text=str(ours))

    def raised(self) -> Exception:
        """Return the failure as an exception again."""
        if self.error_class is None:
            return RuntimeError(self.text)
        known = getattr(errors, self.error_class)
        if not (isinstance(known, type) and issubclass(known, PipelineError)):
            raise TypeError(f"core.errors.{self.error_class} is no PipelineError.")
        return known(self.text)


class Setup(Record):
    """Everything a process needs before its first job.

    Attributes:
        dag: Dotted name of what makes the `Dag` from config and runner.
        warm_up: Dotted name of what is called with the config to make the first job fast; None: nothing is.
    """

    kind: Literal["setup"] = "setup"
    config: Config
    runner: RunnerName
    dag: str
    warm_up: str | None


class RunJob(Record):
    """Run the DAG of a plan."""

    kind: Literal["run"] = "run"
    plan: RunPlan


class OutcomeJob(Record):
    """Tell what the DAG of a plan did."""

    kind: Literal["outcome"] = "outcome"
    plan: RunPlan
    first_version: int | None
    trained: Decision | None


class Answer(Record):
    """An ask is done; with an error, it is raised where it was asked."""

    kind: Literal["answer"] = "answer"
    error: WireError | None = None


class Ready(Record):
    """The process is warm.

    Attributes:
        code_digest: Digest of the sources that it runs.
    """

    kind: Literal["ready"] = "ready"
    code_digest: str


Moment = Literal["check", "node_started", "node_finished", "enter_fence", "leave_fence"]


class Ask(Record):
    """What the observer of the DAG is told, and may refuse.

    Attributes:
        node_id: The node; empty at a fence.
        is_failed: At the end of a fence: what was in it has raised, so nothing of it counts.
    """

    kind: Literal["ask"] = "ask"
    moment: Moment
    node_id: str = ""
    is_failed: bool = False


class Done(Record):
    """The job is over."""

    kind: Literal["done"] = "done"
    outcome: Outcome | None = None
    error: WireError | None = None


ToProcess = Annotated[Setup | RunJob | OutcomeJob | Answer, Field(discriminator="kind")]
FromProcess = Annotated[Ready | Ask | Done, Field(discriminator="kind")]
TO_PROCESS: TypeAdapter[ToProcess] = TypeAdapter(ToProcess)
FROM_PROCESS: TypeAdapter[FromProcess] = TypeAdapter(FromProcess)
