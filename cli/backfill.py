"""`perennial backfill`: work through a range of spans that were left out, after showing what would be done."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from cli.progress import Progress, stop_on_sigterm
from cli.spans import parse_span_range
from core.errors import ConfigError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pipeline.backfill_plan import BackfillStep
    from pipeline.config import Config
    from pipeline.decision import Decision
    from pipeline.plan import Skip

ACTION_COLOURS = {"run": "green", "reopen": "green", "skip": "yellow", "wait": "yellow", "leave": "dim"}


@click.command(short_help="Show what a range of spans needs, and do it.")
@click.argument("span_range", metavar="A..B")
@click.option("--dry-run", is_flag=True, help="Show the plans and write nothing.")
@click.option("--again", is_flag=True, help="Open rejected, blocked, quarantined and skipped spans again.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@config_options
@json_option
def backfill(
    span_range: str,
    dry_run: bool,
    again: bool,
    yes: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    r"""Show what would be done with each span from A to B and why, ask, and then do it in order.

    A version of a span that the champion, or a model that it descends from, has learned from is never trained again,
    and a model that knows only older spans than the champion never takes its place.

    \b
    Example:
      perennial backfill 8..14 --dry-run
      perennial backfill 8..14 --again --yes
    """
    from pipeline.config import load_config

    spans = parse_span_range(span_range)
    config = load_config(config_path, overrides)
    steps = _plan(config, spans, is_again=again)
    make_console(stderr=as_json).print(_table(steps))
    if dry_run or not any(step.changes_something for step in steps):
        results: list[Decision | Skip] = []
    else:
        _confirm(steps, yes=yes)
        results = _run(config, steps)
    if as_json:
        document = {"plan": steps, "results": results}
        click.echo(
            json.dumps(
                {name: [row.model_dump(mode="json") for row in rows] for name, rows in document.items()}, indent=1
            )
        )


def _plan(config: "Config", spans: range, *, is_again: bool) -> "tuple[BackfillStep, ...]":
    from ledger.ledger import Ledger
    from pipeline.backfill import read_findings
    from pipeline.backfill_plan import plan_backfill

    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            findings = read_findings(ledger, config, spans)
    else:
        findings = read_findings(None, config, spans)
    return plan_backfill(findings, config, now=datetime.now(UTC), is_again=is_again)


def _confirm(steps: "Sequence[BackfillStep]", *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "Nobody can be asked whether to run this backfill: standard input is no terminal. Expected --yes, or "
            "--dry-run to see the plans alone."
        )
    num_cycles = sum(step.has_cycle for step in steps)
    click.confirm(f"Run {num_cycles} cycles?", abort=True, err=True)


def _run(config: "Config", steps: "Sequence[BackfillStep]") -> "list[Decision | Skip]":
    from ledger.ledger import Ledger
    from pipeline.backfill import run_backfill
    from pipeline.controller import Controller
    from pipeline.cycle import Listeners
    from pipeline.leadership import leading
    from pipeline.summary import write_pipeline_summary

    quiet_libraries()
    progress = Progress(make_console(stderr=True))
    listeners = Listeners(plan=progress.on_plan, node=progress.on_node)
    stop_on_sigterm(listeners.stop)
    results = []
    with (
        Ledger.open(config.ledger_url, config.name) as ledger,
        leading(ledger, config.worker.lease_ttl_seconds, stop=listeners.stop),
    ):
        for result in run_backfill(steps, Controller(config, ledger, listeners=listeners), ledger, config):
            progress.on_result(result)
            results.append(result)
        write_pipeline_summary(config, ledger)
    return results


def _table(steps: "Sequence[BackfillStep]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("span", justify="right")
    table.add_column("ver", justify="right")
    table.add_column("state")
    table.add_column("do")
    table.add_column("start", overflow="fold")
    table.add_column("window", overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for step in steps:
        start = "" if step.start is None else f"{step.start}{f' from {step.base}' if step.base else ''}"
        table.add_row(
            str(step.span),
            str(step.ref.version) if step.ref else "",
            step.state or "",
            step.action,
            start,
            ", ".join(map(str, step.window)),
            step.why,
            style=ACTION_COLOURS[step.action],
        )
    return table
