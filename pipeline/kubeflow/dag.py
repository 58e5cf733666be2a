"""Runs a plan's DAG on a cluster and follows it there. Recording the run is the business of its own last task."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core import errors
from core.clock import Clock, SystemClock
from core.errors import (
    ConfigError,
    LeaseLostError,
    LedgerError,
    LineageError,
    NodeError,
    PipelineError,
    UnavailableError,
)
from lineage.runs import NodeFailure, node_failures
from lineage.store import opened_store
from pipeline.config import Config
from pipeline.cycle import Fence, NodeObserver
from pipeline.decision import Decision
from pipeline.kubeflow.cluster import OVER, Cluster, ClusterRun, InvalidRequestError, TaskRun
from pipeline.kubeflow.package import Package, compile_package, config_in_cluster
from pipeline.kubeflow.platform import RECORD, RECORD_BLOCKED
from pipeline.plan import RunPlan
from pipeline.record import Outcome
from pipeline.shape import GraphShape, plan_values, shape_of
from pipeline.tfx_dag import TfxDag

Compiler = Callable[[Config, GraphShape], Package]
# Given the plan's run id and where a person looks at the run.
Submitted = Callable[[str, str], None]
# What is checked before there is a node to name.
_SUBMISSION = "submission"


class KubeflowDag:
    """The TFX DAG of `pipeline.graph`, compiled for Kubeflow Pipelines and run by a cluster.

    A run belongs to the cluster from its submission on: a worker that stops leaves it alone, and the next one finds it
    by its name and follows it to its end.

    Attributes:
        runner: `kubeflow` or `kubeflow-local`, as the config says.

    Args:
        config: The pipeline's config.
        cluster: What runs packages.
        clock: Where the time comes from.
        submitted: Told when the cluster has the run.
        compiled: Compiles the DAG of a shape. A test may have something quicker than TFX.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        clock: Clock | None = None,
        *,
        submitted: Submitted = lambda run_id, url: None,
        compiled: Compiler = compile_package,
    ) -> None:
        self.runner = config.runner
        self._tfx = TfxDag(config, config.runner)
        self.code_digest = self._tfx.code_digest
        self._config = config
        self._cluster = cluster
        self._clock = clock or SystemClock()
        self._submitted = submitted
        self._compiled = compiled

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Start the plan's run in the cluster, or find it there, and follow it until it is over.

        Raises:
            PipelineError: of the class that a task recorded, or NodeError; node and span are named in its text.
            UnavailableError: the cluster cannot be asked; whatever it runs goes on.
        """
        observer.check(_SUBMISSION)
        run_id = self._submit(plan)
        run = self._look(run_id)
        self._submitted(plan.run_id, self._cluster.url(run_id))
        progress = _Progress(observer)
        if run.state in ("failed", "cancelled"):
            # That was an earlier attempt's failure, and what had finished then was progress of that attempt.
            progress.leave_out(run)
            with _left_open():
                self._cluster.retry(run_id)
            run = self._look(run_id)
        self._follow(plan, run, progress)

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Refuse: a run in a cluster records itself, so this one should have been recorded by now.

        Raises:
            LedgerError: always.
        """
        raise LedgerError(
            f"Run {plan.run_id} succeeded in the cluster, but this ledger has no decision on it. Expected its last "
            "task to write one here. Let the pods and this command use the same ledger (`ledger`, and "
            "`kubeflow.secrets` for its URL), delete the run in Kubeflow Pipelines, and run the span again."
        )

    def give_up(self, run_id: str, fenced: Fence) -> None:
        """Cancel the run in the cluster, wait until nothing of it goes on, and end it in ML Metadata."""
        with fenced():
            # Who lost the lease must not cancel what its successor follows. The wait for the pods is outside: its last
            # task may be at the ledger, and waits for whoever is inside.
            pass
        if (found := self._cluster.find(run_id)) is not None:
            self._cluster.cancel(found)
        self._tfx.give_up(run_id, fenced)

    def _submit(self, plan: RunPlan) -> str:
        config = config_in_cluster(self._config)
        package = self._compiled(config, shape_of(config, plan))
        values = plan_values(config, plan, self.code_digest)
        with _left_open():
            return self._cluster.submit(package, run_name=plan.run_id, parameters=values)

    def _look(self, run_id: str) -> ClusterRun:
        with _left_open():
            return self._cluster.run(run_id)

    def _follow(self, plan: RunPlan, run: ClusterRun, progress: "_Progress") -> None:
        never = threading.Event()
        while True:
            progress.tell(run)
            if run.state == "succeeded":
                return
            if run.state in OVER:
                raise self._failure(plan, run)
            progress.check()
            self._clock.wait(never, self._config.kubeflow.poll_seconds)
            run = self._look(run.id)

    def _failure(self, plan: RunPlan, run: ClusterRun) -> PipelineError:
        again = f"`perennial run --span {plan.span.span}` goes on where it stopped."
        if run.state == "cancelled":
            return PipelineError(
                f"Run {plan.run_id} of span {plan.span.span} was cancelled in the cluster. Expected that only "
                "`perennial kubeflow cancel`, or a worker that gives a run up, does that; it may also have been a "
                f"person at {self._cluster.url(run.id)}. {again}"
            )
        failed = [task for task in run.tasks if task.state == "failed"]
        recorded = self._recorded(plan.run_id)
        if (failure := _first_recorded(failed, recorded)) is not None:
            return _raised_again(failure, plan.span.span)
        words = next((task.error for task in failed if task.error), run.error) or "the cluster does not say why"
        nodes = ", ".join(repr(task.node_id) for task in failed) or "a task"
        where = f"Node {nodes} failed on span {plan.span.span} in the cluster and left no word of its own: {words}."
        look = (
            f"See its log at {self._cluster.url(run.id)}, or `perennial kubeflow status {plan.run_id}`; "
            "`perennial kubeflow run-local` repeats it on this machine."
        )
        if failed and all(_records(task) for task in failed):
            return UnavailableError(f"{where} The DAG is finished, but not recorded. {look} {again}")
        return NodeError(
            f"{where} Expected a pod that starts and lives: its image, its memory, its secrets, its artifacts. {look}"
        )

    def _recorded(self, run_id: str) -> dict[str, NodeFailure]:
        try:
            with opened_store(self._config.metadata_url) as store:
                return node_failures(store, run_id)
        except (ConfigError, LineageError):
            # The cluster's own words must do.
            return {}


class _Progress:
    """Tells an observer of every node of a run once, however often the run is looked at."""

    def __init__(self, observer: NodeObserver) -> None:
        self._observer = observer
        self._started: set[str] = set()
        self._finished: set[str] = set()
        self._node_id = _SUBMISSION

    def leave_out(self, run: ClusterRun) -> None:
        """Never tell of the nodes that have finished by now."""
        finished = {task.node_id for task in run.tasks if task.state == "succeeded"}
        self._started |= finished
        self._finished |= finished

    def tell(self, run: ClusterRun) -> None:
        """Tell of what is new."""
        for task in run.tasks:
            if _records(task) or task.state in ("pending", "skipped"):
                continue
            if task.node_id not in self._started:
                self._observer.node_started(task.node_id)
                self._started.add(task.node_id)
                self._node_id = task.node_id
            if task.state == "succeeded" and task.node_id not in self._finished:
                self._finish(task.node_id)

    def check(self) -> None:
        """Let the observer end the following."""
        self._observer.check(self._node_id)

    def _finish(self, node_id: str) -> None:
        self._finished.add(node_id)
        try:
            self._observer.node_finished(node_id)
        except LeaseLostError:
            raise
        except LedgerError:
            # The run's own recorder moved the span on in the same moment, and it knows better.
            return


@contextmanager
def _left_open() -> Iterator[None]:
    """Let what keeps this worker away from the cluster, such as an expired token, leave the run open.

    The run may go on in the cluster all the same, and could not record itself once it is closed.
    """
    try:
        yield
    except InvalidRequestError:
        raise
    except ConfigError as error:
        raise UnavailableError(str(error)) from error


def _records(task: TaskRun) -> bool:
    return task.node_id in (RECORD, RECORD_BLOCKED)


def _first_recorded(failed: list[TaskRun], recorded: dict[str, NodeFailure]) -> NodeFailure | None:
    named = (recorded[task.node_id] for task in failed if task.node_id in recorded)
    return next(named, None if failed else next(iter(recorded.values()), None))


def _raised_again(failure: NodeFailure, span: int) -> PipelineError:
    known = getattr(errors, failure.error_class, None)
    where = f"Node {failure.node_id!r} failed on span {span}."
    if isinstance(known, type) and issubclass(known, PipelineError):
        return known(f"{where} {failure.text}")
    return NodeError(f"{where} {failure.error_class}: {failure.text}")
