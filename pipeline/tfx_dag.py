"""Runs a plan on one of TFX's own runners, in this process."""

from core.errors import ConfigError
from lineage.garbage import end_executions
from lineage.store import opened_store, store_exists
from pipeline.config import Config, RunnerName
from pipeline.cycle import Fence, NodeObserver
from pipeline.decision import Decision
from pipeline.plan import RunPlan
from pipeline.record import Outcome, read_outcome
from pipeline.shape import imported_uris
from pipeline.sources import digest_of_code


class TfxDag:
    """The TFX DAG of `pipeline.graph` on one of TFX's runners.

    Attributes:
        runner: `local` or `beam`.
    """

    def __init__(self, config: Config, runner: RunnerName) -> None:
        self.runner = runner
        self.code_digest = digest_of_code()
        self._config = config

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Run what is not finished of the plan's DAG."""
        # TensorFlow and TFX take seconds to import, and a plan may have said that there is nothing to do.
        from pipeline.graph import build_pipeline
        from pipeline.runners import run_pipeline

        _check_reachable(plan, self.runner)
        graph = build_pipeline(self._config, plan, code_digest=self.code_digest)
        run_pipeline(
            graph,
            plan.run_id,
            span=plan.span.span,
            runner=self.runner,
            observer=observer,
            parallel_nodes=self._config.engine.parallel_nodes,
        )

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Read what the DAG did from ML Metadata and its artifacts."""
        return read_outcome(self._config, plan, first_version=first_version, trained=trained)

    def give_up(self, run_id: str, fenced: Fence) -> None:
        """Mark in ML Metadata as failed what is still running there, if the run ever got so far."""
        with fenced():
            if store_exists(self._config.metadata_url):
                with opened_store(self._config.metadata_url, writable=True) as store:
                    end_executions(store, run_id)


def _check_reachable(plan: RunPlan, runner: RunnerName) -> None:
    """Refuse to read what runs in a cluster have left in its object store: only KFP's launcher brings that."""
    if uri := next((uri for uri in imported_uris(plan).values() if uri is not None and "://" in uri), None):
        raise ConfigError(
            f"Runner {runner!r} cannot read what the plan of span {plan.span.span} needs of earlier runs. Expected a "
            f"folder; received {uri!r}. Use the runner that made it, with --runner kubeflow or kubeflow-local."
        )
