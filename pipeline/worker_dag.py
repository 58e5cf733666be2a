"""`WorkerDag`: runs a plan in the worker process. What observes the DAG, the ledger and the lease stay here."""

from core.errors import WorkerDiedError
from pipeline.cycle import Fence, NodeObserver
from pipeline.decision import Decision
from pipeline.plan import RunPlan
from pipeline.record import Outcome
from pipeline.tfx_dag import TfxDag
from pipeline.worker import Worker
from pipeline.worker_child import Child
from pipeline.worker_messages import Answer, Ask, Done, OutcomeJob, RunJob, WireError


class WorkerDag:
    """Does in a worker process what `TfxDag` does in this one, which therefore never loads TensorFlow.

    Attributes:
        runner: `local` or `beam`.
        code_digest: Digest of the sources that both processes run.

    Args:
        here: The same DAG in this process, for what needs no TensorFlow.
        worker: Lends the process.
    """

    def __init__(self, here: TfxDag, worker: Worker) -> None:
        self.runner = here.runner
        self.code_digest = here.code_digest
        self._here = here
        self._worker = worker

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Run what is not finished of the plan's DAG.

        Raises:
            WorkerDiedError: the process died; what it had finished stays finished.
        """
        with self._worker.lent() as child:
            child.send(RunJob(plan=plan))
            served = _ServedRun(child, observer)
            try:
                done = served.follow()
            except WorkerDiedError as error:
                named = WorkerDiedError(
                    f"{error} It was {served.place} of span {plan.span.span}. What is finished stays finished: the run "
                    "goes on there in a new process. If it dies there again, look at what it printed last, in the log."
                )
                self._worker.tell_of_death(child, named)
                raise named from error
        child.num_runs += 1
        if done.error is not None:
            self._worker.rest(child)
        _raise(done)

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Read what the DAG did; the process scores the first model for it.

        Raises:
            WorkerDiedError: the process died over it.
        """
        with self._worker.lent() as child:
            child.send(OutcomeJob(plan=plan, first_version=first_version, trained=trained))
            done = child.receive()
            if not isinstance(done, Done):
                raise WorkerDiedError(f"The worker process is expected to tell an outcome; received {done.kind!r}.")
        # Not between a run and its outcome, which would wait for the successor.
        self._worker.rest(child)
        _raise(done)
        if done.outcome is None:
            raise TypeError("The worker process told neither an outcome nor a failure.")
        return done.outcome

    def give_up(self, run_id: str, fenced: Fence) -> None:
        """Mark in ML Metadata as failed what is still running there."""
        self._here.give_up(run_id, fenced)


def _raise(done: Done) -> None:
    if done.error is not None:
        raise done.error.raised()


class _RolledBackError(Exception):
    """What was published in the other process has failed there, so the fence is left as if it had been here."""


class _ServedRun:
    """Answers what a running DAG asks, until it is done.

    Args:
        child: Runs it.
        observer: Who is told, and may refuse.
    """

    def __init__(self, child: Child, observer: NodeObserver) -> None:
        self._child = child
        self._observer = observer
        self._running: list[str] = []

    @property
    def place(self) -> str:
        """Where in the DAG it is, as part of a sentence."""
        nodes = ", ".join(map(repr, self._running))
        return f"in node {nodes}" if self._running else "between two nodes"

    def follow(self) -> Done:
        """Answer until the job is done."""
        while isinstance(message := self._child.receive(), Ask):
            self._answer(message)
        if not isinstance(message, Done):
            raise WorkerDiedError(f"The worker process is expected to run a DAG; received {message.kind!r}.")
        return message

    def _answer(self, ask: Ask) -> None:
        try:
            if ask.moment == "enter_fence":
                self._hold_fence()
            else:
                self._tell(ask)
        except WorkerDiedError:
            raise
        except Exception as error:
            self._child.send(Answer(error=WireError.of(error)))
        else:
            self._child.send(Answer())

    def _hold_fence(self) -> None:
        """Hold the fence from one ask to another; what is asked in between is answered inside it."""
        try:
            with self._observer.fenced():
                self._child.send(Answer())
                while (ask := self._child.receive()).kind == "ask" and ask.moment != "leave_fence":
                    self._answer(ask)
                if not isinstance(ask, Ask):
                    raise WorkerDiedError(f"The worker process is expected to leave the fence; received {ask.kind!r}.")
                if ask.is_failed:
                    raise _RolledBackError
        except _RolledBackError:
            return

    def _tell(self, ask: Ask) -> None:
        if ask.moment == "check":
            self._observer.check(ask.node_id)
        elif ask.moment == "node_started":
            self._running.append(ask.node_id)
            self._observer.node_started(ask.node_id)
        elif ask.moment == "node_finished":
            self._observer.node_finished(ask.node_id)
            self._running.remove(ask.node_id)
        else:
            raise WorkerDiedError(f"The worker process asked for {ask.moment!r} outside of a fence.")
