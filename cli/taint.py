"""`perennial lineage taint`: what rests on a corrected or bad span, and what to do about it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from core.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pipeline.corrections import TaintReport
    from schemas.taint import Taint, TaintedModel

# Artifacts of a kind that are named, the last; `--json` has all.
MAX_LISTED = 3
FATE_COLOURS = {"serving": "red", "hidden": "yellow", "removed": "dim"}


@click.command(short_help="Show everything that rests on a corrected or bad span.")
@click.argument("span", type=click.IntRange(min=0), metavar="SPAN")
@click.option("--version", type=click.IntRange(min=1), help="The bad version; default: all that were corrected.")
@config_options
@json_option
def taint(span: int, version: int | None, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show every model, transform graph, replay buffer and statistics that rest on a span, and the repair.

    Asks the ledger alone, and changes nothing.

    \b
    Example:
      perennial lineage taint 9
      perennial lineage taint 9 --version 2 --json
    """
    from ledger.ledger import Ledger
    from pipeline.config import load_config
    from pipeline.corrections import taint_report

    config = load_config(config_path, overrides)
    if not Ledger.exists(config.ledger_url):
        raise LedgerError(f"Pipeline {config.name!r} has no ledger yet. Expected one from a run. Run `perennial run`.")
    with Ledger.open(config.ledger_url, config.name) as ledger:
        report = taint_report(ledger, config, span, version)
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=1))
    else:
        print_report(report)


def print_report(report: "TaintReport") -> None:
    """Print the tainted models as a table, and below it the other artifacts, the way back, and the repair."""
    taint = report.taint
    versions = ", ".join(str(ref.version) for ref in taint.sources)
    models = f"{len(taint.models)} model{'' if len(taint.models) == 1 else 's'}"
    click.echo(f"span {taint.sources[0].span} version {versions}: {models} learned from it")
    if taint.models:
        make_console().print(_table(taint.models))
    _print_listed("statistics", taint.statistics)
    _print_listed("transform graphs", taint.transform_graphs)
    holds = [f"{buffer.uri}{'' if buffer.is_certain else '  (may hold some)'}" for buffer in taint.replay_buffers]
    _print_listed("replay buffers", holds)
    click.echo(f"champion: {_champion(taint)}")
    if taint.champion_is_tainted:
        click.echo(f"last clean ancestor: {_ancestor(taint)}")
    click.echo(f"repair: {report.advice}")


def _table(models: "Sequence[TaintedModel]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("model", justify="right")
    table.add_column("span", justify="right")
    table.add_column("by")
    table.add_column("through", overflow="fold")
    table.add_column("now")
    for model in models:
        colour = FATE_COLOURS.get(model.fate)
        table.add_row(str(model.version), str(model.span), model.path, model.through, model.fate, style=colour)
    return table


def _print_listed(name: str, items: "Sequence[str]") -> None:
    if not items:
        return
    click.echo(f"{name}: {len(items)}")
    if len(items) > MAX_LISTED:
        click.echo("  …")
    for item in items[-MAX_LISTED:]:
        click.echo(f"  {item}")


def _champion(taint: "Taint") -> str:
    if taint.champion_version is None:
        return "none yet"
    return f"version {taint.champion_version}, {'tainted' if taint.champion_is_tainted else 'clean'}"


def _ancestor(taint: "Taint") -> str:
    if taint.clean_ancestor is None:
        return "none: the whole line is tainted, or what is not has no files any more"
    model = taint.clean_ancestor.model
    spans = len({ref.span for ref in taint.learned_since})
    return f"version {model.version} (span {model.span}); {spans} spans were learned since"
