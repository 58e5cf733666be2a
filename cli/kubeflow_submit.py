"""`perennial kubeflow submit`: plan the next cycle here, and run it in the cluster."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.cycles import run_cycles
from cli.options import config_options, json_option
from cli.progress import Progress, stop_on_sigterm
from core.errors import ConfigError, StoppedError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.controller import Controller
    from pipeline.decision import Decision
    from pipeline.plan import Skip


@click.command(short_help="Plan the next cycle, run it in the cluster, and follow it.")
@config_options
@json_option
@click.option("--span", type=click.IntRange(min=0), help="Run this span.")
@click.option("--next", "is_next", is_flag=True, help="Run the next span that is due; this is the default.")
@click.option("--no-wait", is_flag=True, help="Leave when the cluster has the run: it records itself.")
def submit(
    config_path: Path, overrides: tuple[str, ...], as_json: bool, span: int | None, is_next: bool, no_wait: bool
) -> None:
    r"""Do what `perennial run` does with the runner `kubeflow`: plan, upload the package, start the run, follow it.

    Whoever stops following leaves the run alone: it records itself in the ledger, and the same command finds it again.
    A run that failed goes on with its failed tasks. Exit codes are those of `perennial run`.

    \b
    Example:
      perennial kubeflow submit --set kubeflow.host=http://localhost:8080
      perennial kubeflow submit --span 12 --no-wait
    """
    from pipeline.config import load_config
    from pipeline.cycle import Listeners
    from pipeline.kubeflow.dag import KubeflowDag
    from pipeline.kubeflow.kfp_cluster import KfpCluster

    if span is not None and is_next:
        raise ConfigError("Two things say what to submit. Expected --span N or --next, not both. Leave one out.")
    config = load_config(config_path, overrides).model_copy(update={"runner": "kubeflow"})
    quiet_libraries()
    cluster = KfpCluster(config.kubeflow, config.name)
    # Before anything is planned: a wrong token is no failure of a run.
    cluster.check()
    console = make_console(stderr=True)
    progress = Progress(console)
    listeners = Listeners(plan=progress.on_plan, node=progress.on_node)
    stop_on_sigterm(listeners.stop)
    begun: dict[str, str] = {}

    def on_submitted(run_id: str, url: str) -> None:
        begun["run_id"], begun["url"] = run_id, url
        console.print(f"{run_id}: {url}", soft_wrap=True)
        if no_wait:
            listeners.stop.set()

    dag = KubeflowDag(config, cluster, submitted=on_submitted)
    try:
        results = run_cycles(config, dag, listeners, progress, lambda controller: _results(controller, span))
    except StoppedError:
        if not (no_wait and begun):
            raise
        progress.close()
        if as_json:
            click.echo(json.dumps([begun], indent=1))
        else:
            click.echo(f"It records itself. Look with `perennial kubeflow status {begun['run_id']}`.")
        return
    if as_json:
        click.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=1))
    else:
        click.echo(f"summary: {config.summary_path}")


def _results(controller: "Controller", span: int | None) -> "Iterator[Decision | Skip]":
    yield controller.run_next() if span is None else controller.run_span(span)
