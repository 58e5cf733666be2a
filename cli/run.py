"""`perennial run`: the cycles of one or several spans."""

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from cli.quiet import quiet_libraries
from cli.spans import parse_span_range
from core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from rich.console import Console

    from pipeline.config import RunnerName
    from pipeline.controller import Controller
    from pipeline.decision import Decision
    from pipeline.plan import RunPlan, Skip

COLOURS = {"pushed": "green", "rejected": "yellow", "blocked": "red"}


@click.command(short_help="Run the cycle of a span, of several, or of the next one.")
@config_options
@json_option
@click.option("--span", type=click.IntRange(min=0), help="Run this span.")
@click.option("--spans", "span_range", metavar="A..B", help="Run these spans in order, both ends included.")
@click.option("--next", "is_next", is_flag=True, help="Run the next span that is due.")
@click.option("--runner", type=click.Choice(["local", "beam"]), help="TFX runner; default: the config's.")
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
    """
    from ledger.ledger import Ledger
    from pipeline.config import load_config
    from pipeline.controller import Controller
    from pipeline.cycle import Listeners, TfxDag
    from pipeline.leadership import leading
    from pipeline.plan import Skip
    from pipeline.summary import write_pipeline_summary

    if [span is not None, span_range is not None, is_next].count(True) != 1:
        raise ConfigError("Nothing says what to run. Expected exactly one of --span N, --spans A..B, --next.")
    config = load_config(config_path, overrides)
    quiet_libraries()
    progress = _Progress(make_console(stderr=True))
    listeners = Listeners(plan=progress.on_plan, node=progress.on_node)
    _stop_on_sigterm(listeners.stop)
    with (
        Ledger.open(config.ledger_url, config.name) as ledger,
        leading(ledger, config.worker.lease_ttl_seconds, stop=listeners.stop),
    ):
        controller = Controller(config, ledger, dag=TfxDag(config, runner or config.runner), listeners=listeners)
        results = []
        for result in _results(controller, span, span_range):
            progress.on_result(result)
            results.append(result)
        if not all(isinstance(result, Skip) for result in results) or not config.summary_path.exists():
            write_pipeline_summary(config, ledger)
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


def _stop_on_sigterm(stop: "Event") -> None:
    """Let SIGTERM stop the run before its next node; a second one ends the process. It goes on there either way."""

    def ask_to_stop(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask_to_stop)


class _Progress:
    """What a person watches during a run: the plan, the node that is running, and the outcome of each span."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("starting TFX")
        self._started = time.monotonic()
        self._label = ""

    def on_plan(self, plan: "RunPlan") -> None:
        self._label = f"span {plan.span.span}"
        self._started = time.monotonic()
        for sentence in plan.why:
            self._console.print(f"[bold]{self._label}[/bold]  {sentence}")
        self._status.update(f"{self._label}: starting TFX")
        self._status.start()

    def on_node(self, node_id: str) -> None:
        self._status.update(f"{self._label}: {node_id} ({time.monotonic() - self._started:.0f} s)")
        if not self._console.is_terminal:
            self._console.print(f"{self._label}  {time.monotonic() - self._started:5.1f} s  {node_id}")

    def on_result(self, result: "Decision | Skip") -> None:
        from pipeline.plan import Skip

        self._status.stop()
        if isinstance(result, Skip):
            self._console.print(result.reason)
            return
        self._print(self._label, result)
        if result.shadow is not None:
            self._print(f"{self._label} shadow", result.shadow)

    def _print(self, label: str, decision: "Decision") -> None:
        reasons = " ".join(decision.reasons[len(decision.plan.why) :][:2])
        self._console.print(
            f"[bold]{label}[/bold]  [{COLOURS.get(decision.outcome, 'default')}]{decision.outcome}[/] in "
            f"{decision.seconds['total']:.1f} s. {reasons}"
        )
