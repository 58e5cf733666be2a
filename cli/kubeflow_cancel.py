"""`perennial kubeflow cancel`: stop a run in the cluster, and let its span wait again."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import config_options
from core.errors import LeaseHeldError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.kubeflow.kfp_cluster import KfpCluster

REASON = "Cancelled by `perennial kubeflow cancel`."


@click.command(short_help="Stop a run in the cluster, and let its span wait again.")
@click.argument("run", metavar="RUN")
@config_options
def cancel(run: str, config_path: Path, overrides: tuple[str, ...]) -> None:
    r"""Stop a run, wait until none of its tasks goes on, and close it in the ledger: its span is planned anew.

    RUN is a run id as `perennial status` has it, or the cluster's own. A run that is over is left alone.

    \b
    Example:
      perennial kubeflow cancel RUN
    """
    from pipeline.config import load_config
    from pipeline.kubeflow.cluster import OVER
    from pipeline.kubeflow.kfp_cluster import KfpCluster

    config = load_config(config_path, overrides).model_copy(update={"runner": "kubeflow"})
    cluster = KfpCluster(config.kubeflow, config.name)
    found = cluster.named(run)
    if found.state in OVER:
        click.echo(f"{found.name} is over already: it {found.state}.".replace("it cancelled", "it was cancelled"))
        return
    cluster.cancel(found.id)
    click.echo(f"{found.name} is cancelled in the cluster. {_close(config, cluster, found.name)}")


def _close(config: "Config", cluster: "KfpCluster", run_id: str) -> str:
    """Close the run in the ledger, unless somebody follows it and does that; return what came of it."""
    from ledger.ledger import Ledger
    from pipeline.controller import Controller
    from pipeline.kubeflow.dag import KubeflowDag
    from pipeline.leadership import leading

    quiet_libraries()
    with Ledger.open(config.ledger_url, config.name) as ledger:
        try:
            with leading(ledger, config.worker.lease_ttl_seconds):
                is_open = any(record.run_id == run_id and record.outcome is None for record in ledger.runs())
                if not is_open:
                    return "The ledger has nothing to close."
                Controller(config, ledger, dag=KubeflowDag(config, cluster)).abandon(run_id, REASON)
        except LeaseHeldError:
            return "The worker that follows it records that."
    return "Its span waits again."
