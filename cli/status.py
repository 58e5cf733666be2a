"""`perennial status`: what became of every span, which model serves, and what goes on now."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from pipeline.config import Config
    from pipeline.overview import ChampionStatus, OpenRun, SpanStatus, Status, Worker
    from schemas.ledger_records import SpanState, Transition

# Rows of the table: the newest spans that something became of, and the first that wait. `--json` has all.
MAX_TOUCHED_ROWS = 30
MAX_WAITING_ROWS = 3
# Sentences below the table; they are about its rows, the newest.
MAX_REASONS = 10
MAX_ALERTS = 10
MAX_REQUESTS = 5
STATE_COLOURS: "dict[SpanState, str]" = {
    "pushed": "green",
    "rejected": "yellow",
    "blocked": "red",
    "quarantined": "red",
    "skipped": "dim",
    "superseded": "dim",
}
_EXPLAINED_STATES = frozenset({"rejected", "blocked", "quarantined", "skipped", "superseded", "arrived"})


@click.command(short_help="Show what became of every span, the champion, and what goes on now.")
@click.option("--span", type=click.IntRange(min=0), metavar="SPAN", help="Show every step of this span instead.")
@config_options
@json_option
def status(span: int | None, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show every span with its verdict, its AUC and the version it was pushed as, and the model that serves.

    Below the table: why spans were refused, who runs the pipeline, what was asked for, and what is overdue.

    \b
    Example:
      perennial status --config conf/flights.yaml
      perennial status --span 12
      perennial status --json | jq .champion
    """
    from ledger.ledger import Ledger
    from pipeline.config import load_config
    from pipeline.overview import Status, read_status

    config = load_config(config_path, overrides)
    report, steps = Status(), list["Transition"]()
    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            if span is not None:
                steps = ledger.transitions(span)
            else:
                report = read_status(ledger, config, now=datetime.now(UTC))
    if span is not None:
        _print_steps(config, span, steps, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=1))
    else:
        print_status(config, report)


def print_status(config: "Config", report: "Status") -> None:
    """Print the table, the reasons below it, the champion and its prequential scores, and what goes on now."""
    from schemas.gate import HEADLINE_METRIC

    if not report.spans:
        click.echo(f"Pipeline {config.name} has no spans yet. Run `perennial ingest`, then `perennial run --next`.")
        return
    shown = _shown(report.spans)
    make_console().print(_table(report.spans, shown, HEADLINE_METRIC[config.label.task]))
    for sentence in (*_reasons(shown), *_now(report), f"champion: {_champion_text(report.champion)}"):
        click.echo(sentence)
    if report.prequential is not None:
        click.echo(f"before training on each span: {report.prequential.sentence}")


def _shown(spans: "Sequence[SpanStatus]") -> "list[SpanStatus]":
    touched = [span for span in spans if span.state != "arrived"][-MAX_TOUCHED_ROWS:]
    waiting = [span for span in spans if span.state == "arrived"][:MAX_WAITING_ROWS]
    return sorted([*touched, *waiting], key=lambda span: (span.span, span.version))


def _reasons(shown: "Sequence[SpanStatus]") -> "Iterator[str]":
    explained = [span for span in shown if span.reason and span.state in _EXPLAINED_STATES]
    for span in explained[-MAX_REASONS:]:
        name = f"Span {span.span}" if span.version == 1 else f"Span {span.span} version {span.version}"
        if span.state == "arrived":
            yield f"{name} failed and will be tried again: {span.reason}"
        else:
            yield f"{name} was {span.state}: {span.reason}"
    if len(explained) > MAX_REASONS:
        yield f"{len(explained) - MAX_REASONS} earlier reasons are not shown; `--json` has all."


def _now(report: "Status") -> "Iterator[str]":
    """Yield what goes on now, and what somebody should look into."""
    for sentence in report.alerts[:MAX_ALERTS]:
        yield f"look: {sentence}"
    if (last := report.last_run) is not None:
        ended = "" if last.finished_at is None else f" at {_time(last.finished_at)}"
        yield f"last cycle: span {last.span} version {last.version}, {last.outcome}{ended}"
    for run in report.open_runs:
        yield _open_run_text(run, report.worker)
    if report.worker is not None:
        yield f"worker: {_worker_text(report.worker)}"
    for request in report.requests[:MAX_REQUESTS]:
        what = "the next span" if request.span is None else f"span {request.span}"
        how = f", {request.initialisation}" if request.initialisation else ""
        yield f"asked for: {what}{how} (request {request.id}, {_time(request.requested_at)})"
    if len(report.requests) > MAX_REQUESTS:
        yield f"{len(report.requests) - MAX_REQUESTS} more requests wait."


def _open_run_text(run: "OpenRun", worker: "Worker | None") -> str:
    word = "interrupted" if worker is None or worker.is_dead else "running"
    attempt = f", attempt {run.attempts} of {run.max_attempts} without progress" if run.attempts > 1 else ""
    end = "; the next `perennial run` finishes it" if word == "interrupted" else ""
    return f"{word}: span {run.span} version {run.version}{attempt}, since {_time(run.started_at)}{end}"


def _worker_text(worker: "Worker") -> str:
    seen = "never seen" if worker.heartbeat_at is None else f"last sign of life at {_time(worker.heartbeat_at)}"
    return f"{worker.holder}, {seen}" + (", and it is gone" if worker.is_dead else "")


def _champion_text(champion: "ChampionStatus | None") -> str:
    if champion is None:
        return "none yet"
    text = f"version {champion.version}, trained for span {champion.span}"
    # A cycle moves it too; that is what the table is about.
    word = {"rollback": "rolled back", "promote": "promoted"}.get(champion.moved_by or "")
    if word is not None:
        before = "" if champion.previous is None else f" from version {champion.previous}"
        why = f": {champion.reason}" if champion.reason else ""
        text += f", {word}{before} at {_time(champion.since)}{why}"
    return text


def _print_steps(config: "Config", span: int, steps: "Sequence[Transition]", *, as_json: bool) -> None:
    if not steps:
        raise DataError(
            f"Span {span} is not in the ledger of {config.name!r}. Expected a span that was ingested, and found by a "
            f"run; received span={span}. Look at `perennial status`."
        )
    if as_json:
        click.echo(json.dumps([step.model_dump(mode="json") for step in steps], indent=1))
        return
    # Lines and no table: unlike a cell, a reason is never cut.
    for step in steps:
        origin = "" if step.from_state is None else f"{step.from_state} -> "
        run = "" if step.run_id is None else f"  by run {step.run_id}"
        why = "" if step.reason is None else f"  {step.reason}"
        click.echo(f"{_time(step.at)}  version {step.version}  {origin + step.to_state:<24}{run}{why}".rstrip())


def _table(spans: "Sequence[SpanStatus]", shown: "Sequence[SpanStatus]", metric: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("span", justify="right")
    table.add_column("ver", justify="right")
    table.add_column("state")
    table.add_column("examples", justify="right")
    table.add_column("drift")
    for name in ("AUC", "champion", "before", "pushed", "sec"):
        table.add_column(name, justify="right")
    keys = {(span.span, span.version, span.state) for span in shown}
    folded = [span for span in spans if (span.span, span.version, span.state) not in keys]
    _add_fold(table, [span for span in folded if span.state != "arrived"], "earlier")
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
    _add_fold(table, [span for span in folded if span.state == "arrived"], "more")
    return table


def _add_fold(table: "Table", spans: "Sequence[SpanStatus]", word: str) -> None:
    """Add one row for many, and one for each of their states where they are of several."""
    if not spans:
        return
    table.add_row("…", "", f"{len(spans):,} {word}", f"{sum(span.examples for span in spans):,}", style="dim")
    counts = Counter(span.state for span in spans)
    if len(counts) > 1:
        for state, count in counts.most_common():
            table.add_row("", "", f"{count:,} {state}", style="dim")


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
