"""`perennial status`: what became of every span, and which model serves."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from schemas.base import Record
from schemas.gate import HEADLINE_METRIC
from schemas.ledger_records import SpanState
from schemas.scores import PrequentialSummary, prequential_history

if TYPE_CHECKING:
    from rich.table import Table

    from ledger.ledger import Ledger
    from pipeline.config import Config

# The table folds the spans that only wait after this many; `--json` has all.
MAX_WAITING_ROWS = 3
STATE_COLOURS: dict[SpanState, str] = {"pushed": "green", "rejected": "yellow", "blocked": "red"}


class ChampionStatus(Record):
    """The model that serves, and the span that made it."""

    version: int
    span: int


class SpanStatus(Record):
    """One row of the table; `seconds` is the wall time of the span's run, `prequential` all metrics of that score."""

    span: int
    version: int
    state: SpanState
    examples: int
    drift_verdict: str | None
    candidate_auc: float | None
    champion_auc: float | None
    prequential: dict[str, float] | None
    pushed_version: int | None
    seconds: float | None


class Status(Record):
    """What `perennial status --json` prints.

    Attributes:
        champion: None before the first push.
        prequential: Where the champions' scores on spans that nothing had trained on yet stand; None before the first.
    """

    champion: ChampionStatus | None = None
    spans: tuple[SpanStatus, ...] = ()
    prequential: PrequentialSummary | None = None


@click.command(short_help="Show what became of every span, and the champion.")
@config_options
@json_option
def status(config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show every span with its verdict, its AUC and the version it was pushed as, and the model that serves.

    \b
    Example:
      perennial status --config conf/flights.yaml
      perennial status --json | jq .champion
    """
    from ledger.ledger import Ledger
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    report, reasons = Status(), tuple[str, ...]()
    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            report, reasons = read_status(ledger, config), read_reasons(ledger)
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=1))
    else:
        print_status(config, report, reasons)


def read_status(ledger: "Ledger", config: "Config") -> Status:
    """Return the champion, all spans as the table shows them, and where the prequential scores stand."""
    from monitoring.prequential import summarise

    champion = ledger.champion()
    history = prequential_history(ledger.spans())
    metric = HEADLINE_METRIC[config.label.task]
    return Status(
        prequential=summarise(history, config.gate.prequential, metric) if history else None,
        champion=ChampionStatus(version=champion.version, span=champion.span) if champion else None,
        spans=tuple(
            SpanStatus(
                examples=record.num_examples,
                **record.model_dump(include=set(SpanStatus.model_fields) - {"examples"}),
            )
            for record in ledger.spans()
        ),
    )


def read_reasons(ledger: "Ledger") -> tuple[str, ...]:
    """Return a sentence for every span that was rejected or blocked, or whose last run failed."""
    last_runs = {(run.span, run.version): run for run in ledger.runs()}
    sentences = []
    for record in ledger.spans():
        last = last_runs.get((record.span, record.version))
        if record.state in ("rejected", "blocked") and record.reason:
            sentences.append(f"Span {record.span} was {record.state}: {record.reason}")
        elif record.state == "arrived" and last and last.outcome == "failed":
            sentences.append(f"Span {record.span} failed and will be tried again: {last.error}")
    return tuple(sentences)


def print_status(config: "Config", report: Status, reasons: tuple[str, ...]) -> None:
    """Print the table, the reasons below it, the champion and its prequential scores."""
    if not report.spans:
        click.echo(f"Pipeline {config.name} has no spans yet. Run `perennial ingest`, then `perennial run --next`.")
        return
    make_console().print(_table(report, HEADLINE_METRIC[config.label.task]))
    for sentence in reasons:
        click.echo(sentence)
    champion = report.champion
    serving = f"version {champion.version}, trained for span {champion.span}" if champion else "none yet"
    click.echo(f"champion: {serving}")
    if report.prequential is not None:
        click.echo(f"before training on each span: {report.prequential.sentence}")


def _table(report: Status, metric: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("span", justify="right")
    table.add_column("ver", justify="right")
    table.add_column("state")
    table.add_column("examples", justify="right")
    table.add_column("drift")
    table.add_column("AUC", justify="right")
    table.add_column("champion", justify="right")
    table.add_column("before", justify="right")
    table.add_column("pushed", justify="right")
    table.add_column("sec", justify="right")
    last_touched = max((index for index, span in enumerate(report.spans) if span.state != "arrived"), default=-1)
    shown = report.spans[: last_touched + 1 + MAX_WAITING_ROWS]
    for span in shown:
        table.add_row(
            str(span.span),
            str(span.version),
            span.state,
            f"{span.examples:,}",
            span.drift_verdict or "",
            _number(span.candidate_auc, 4),
            _number(span.champion_auc, 4),
            _number((span.prequential or {}).get(metric), 4),
            "" if span.pushed_version is None else str(span.pushed_version),
            _number(span.seconds, 1),
            style=STATE_COLOURS.get(span.state),
        )
    if waiting := report.spans[len(shown) :]:
        count = sum(span.examples for span in waiting)
        table.add_row("…", "", f"{len(waiting)} more", f"{count:,}", style="dim")
    return table


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
