"""`perennial kubeflow status`: the runs in the cluster, or one of them with its tasks."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from core.errors import ConfigError, DataError, LineageError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.kubeflow.cluster import ClusterRun
    from pipeline.kubeflow.kfp_cluster import KfpCluster

MAX_RUNS = 20
STATE_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "bold"}


@click.command(short_help="Show the runs in the cluster, or the tasks of one.")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--package", type=click.Path(path_type=Path), help="Write the package that RUN runs to this file.")
@config_options
@json_option
def status(run: str | None, package: Path | None, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show the newest runs; of one run its tasks, what it says of a failure, its page, and how to repeat it here.

    RUN is a run id as `perennial status` has it, or the cluster's own. `parameters` of the JSON are what
    `perennial kubeflow run-local --param-file` takes.

    \b
    Example:
      perennial kubeflow status
      perennial kubeflow status RUN --package package.yaml
      perennial kubeflow status RUN --json | jq .parameters > values.json
      perennial kubeflow run-local package.yaml --param-file values.json
    """
    from pipeline.config import load_config
    from pipeline.kubeflow.kfp_cluster import KfpCluster

    config = load_config(config_path, overrides)
    cluster = KfpCluster(config.kubeflow, config.name)
    if run is not None:
        _show(cluster, _with_recorded(config, cluster.named(run)), package, as_json=as_json)
    elif package is not None:
        raise ConfigError("Nothing says whose package to write. Expected a RUN beside --package. Name one.")
    elif as_json:
        click.echo(json.dumps([_document(cluster, run) for run in cluster.runs(MAX_RUNS)], indent=1))
    else:
        _print_runs(cluster.runs(MAX_RUNS))


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was, in its largest whole unit.

    Example:
        >>> age(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, 30, tzinfo=UTC))
        '2 h'
    """
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _show(cluster: "KfpCluster", run: "ClusterRun", package: Path | None, *, as_json: bool) -> None:
    if package is not None:
        text = cluster.package_text(run.id)
        if text is None:
            raise DataError(
                f"The package of run {run.name} is gone. Expected the version that it ran. Somebody deleted it from "
                "Kubeflow Pipelines: compile it again with `perennial kubeflow compile`."
            )
        package.write_text(text, encoding="utf-8")
    if as_json:
        click.echo(json.dumps(_document(cluster, run), indent=1))
    else:
        _print_run(cluster, run)


def _with_recorded(config: "Config", run: "ClusterRun") -> "ClusterRun":
    """Return the run with what its failed tasks wrote of themselves into ML Metadata, which the cluster does not know.

    A laptop may reach the cluster alone: then the cluster's words must do.
    """
    from lineage.runs import node_failures
    from lineage.store import opened_store

    failed = {task.node_id for task in run.tasks if task.state == "failed"}
    if not failed:
        return run
    try:
        with opened_store(config.metadata_url) as store:
            recorded = {node_id: failure.text for node_id, failure in node_failures(store, run.name).items()}
    except (ConfigError, LineageError):
        return run
    told = {node_id: {"error": recorded[node_id]} for node_id in failed & set(recorded)}
    return run.model_copy(update={"tasks": tuple(task.model_copy(update=told.get(task.node_id)) for task in run.tasks)})


def _document(cluster: "KfpCluster", run: "ClusterRun") -> dict[str, object]:
    return {**run.model_dump(mode="json"), "span": _span(run), "url": cluster.url(run.id)}


def _span(run: "ClusterRun") -> int | None:
    from schemas.provenance import decode_spans

    try:
        return next((ref.span for ref in decode_spans(str(run.parameters["span"]))), None)
    except (KeyError, ValueError):
        # A run of the schedule has no span of its own, and people may run other things there.
        return None


def _print_runs(runs: "tuple[ClusterRun, ...]") -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("run", "span", "state", "age", "package"):
        table.add_column(column, overflow="fold")
    now = datetime.now(UTC)
    for run in runs:
        span = _span(run)
        colour = STATE_COLOURS.get(run.state)
        table.add_row(
            run.name, "" if span is None else str(span), run.state, age(run.created_at, now), run.package, style=colour
        )
    make_console().print(table if runs else "There is no run yet.")


def _print_run(cluster: "KfpCluster", run: "ClusterRun") -> None:
    console = make_console()
    console.print(f"{run.name}  [{STATE_COLOURS.get(run.state, 'default')}]{run.state}[/]", soft_wrap=True)
    console.print(f"{cluster.url(run.id)}", soft_wrap=True)
    for task in run.tasks:
        words = f"  {task.error}" if task.error else ""
        console.print(f"  [{STATE_COLOURS.get(task.state, 'default')}]{task.state:10}[/] {task.node_id}{words}")
    if run.error:
        console.print(run.error, soft_wrap=True)
    if run.state == "failed":
        console.print(
            f"It goes on where it failed with `perennial kubeflow submit`. To repeat it on this machine:\n"
            f"  perennial kubeflow status {run.name} --package package.yaml\n"
            f"  perennial kubeflow status {run.name} --json | jq .parameters > values.json\n"
            "  perennial kubeflow run-local package.yaml --param-file values.json",
            soft_wrap=True,
        )
