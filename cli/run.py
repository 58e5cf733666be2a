"""`perennial run`: the cycles of one or several spans."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.cycles import run_cycles
from cli.options import config_options, json_option, runner_option
from cli.progress import Progress, stop_on_sigterm
from cli.spans import parse_span_range
from core.errors import ConfigError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config import RunnerName
    from pipeline.controller import Controller
    from pipeline.decision import Decision
    from pipeline.plan import Skip


@click.command(short_help="Run the cycle of a span, of several, or of the next one.")
@config_options
@json_option
@click.option("--span", type=click.IntRange(min=0), help="Run this span.")
@click.option("--spans", "span_range", metavar="A..B", help="Run these spans in order, both ends included.")
@click.option("--next", "is_next", is_flag=True, help="Run the next span that is due.")
@runner_option
def run(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    span: int | None,
    span_range: str | None,
    is_next: bool,
    runner: "RunnerName | None",
) -> None:
    r"""Plan the cycle, run its TFX DAG, and record what it did and why. A span that is done is left alone.

    A run that was killed is finished first, from the node it died in. Ends with exit code 0 for every verdict (pushed,
    rejected, blocked); only failures have other codes, and 75 says that the same command may work later.

    \b
    Example:
      perennial run --spans 8..14 --runner local
      perennial run --next --runner kubeflow
    """
    from pipeline.config import load_config
    from pipeline.cycle import Listeners
    from pipeline.dags import make_dag

    if [span is not None, span_range is not None, is_next].count(True) != 1:
        raise ConfigError("Nothing says what to run. Expected exactly one of --span N, --spans A..B, --next.")
    config = load_config(config_path, overrides)
    quiet_libraries()
    progress = Progress(make_console(stderr=True))
    listeners = Listeners(plan=progress.on_plan, node=progress.on_node)
    stop_on_sigterm(listeners.stop)
    dag = make_dag(config, runner)
    results = run_cycles(config, dag, listeners, progress, lambda controller: _results(controller, span, span_range))
    if as_json:
        click.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=1))
    else:
        click.echo(f"summary: {config.summary_path}")


def _results(controller: "Controller", span: int | None, span_range: str | None) -> "Iterator[Decision | Skip]":
    if span is not None:
        yield controller.run_span(span)
    elif span_range is not None:
        spans = parse_span_range(span_range)
        yield from controller.run_spans(spans[0], spans[-1])
    else:
        yield controller.run_next()
