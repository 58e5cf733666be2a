"""Cycles run from the command line: under the lease, with progress, and with a new summary at the end."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cli.progress import Progress
    from pipeline.config import Config
    from pipeline.controller import Controller
    from pipeline.cycle import Dag, Listeners
    from pipeline.decision import Decision
    from pipeline.plan import Skip


def run_cycles(
    config: "Config",
    dag: "Dag",
    listeners: "Listeners",
    progress: "Progress",
    work: "Callable[[Controller], Iterable[Decision | Skip]]",
) -> "list[Decision | Skip]":
    """Let a controller that holds the lease do the work, show each result, and write the pipeline's summary.

    Args:
        config: The pipeline's config.
        dag: What runs the plans.
        listeners: Who is told of plans and nodes; losing the lease sets their `stop`.
        progress: Shows each result.
        work: Yields the results that a controller comes to.
    """
    from ledger.ledger import Ledger
    from pipeline.controller import Controller
    from pipeline.leadership import leading
    from pipeline.plan import Skip
    from pipeline.summary import write_pipeline_summary

    with (
        Ledger.open(config.ledger_url, config.name) as ledger,
        leading(ledger, config.worker.lease_ttl_seconds, stop=listeners.stop),
    ):
        results = []
        for result in work(Controller(config, ledger, dag=dag, listeners=listeners)):
            progress.on_result(result)
            results.append(result)
        if not all(isinstance(result, Skip) for result in results) or not config.summary_path.exists():
            write_pipeline_summary(config, ledger)
    return results
