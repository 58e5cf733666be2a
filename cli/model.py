"""`perennial model`: which models there are, which one serves, and what may go."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.console import make_console
from cli.options import config_options, json_option
from core.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from ledger.ledger import Ledger
    from pipeline.collection import Garbage
    from pipeline.config import Config
    from pipeline.registry import ModelStatus, Promotion

# Models that the table shows, the newest; `--json` has all.
MAX_MODEL_ROWS = 20
# How many removed versions a sentence names.
MAX_NAMED_VERSIONS = 10

_version = click.argument("version", type=click.IntRange(min=1), metavar="VERSION")
_reason = click.option("--reason", metavar="TEXT", help="Why; kept in the ledger and shown by `status`.")


@click.group(short_help="List models, choose which one serves, and remove old ones.")
def model() -> None:
    r"""List pushed models, choose which one serves, and remove what nothing needs.

    \b
    Example:
      perennial model list
      perennial model rollback --reason "too many alarms"
      perennial model gc --dry-run
    """


@model.command("list", short_help="Show every pushed model; the champion is marked.")
@config_options
@json_option
def list_command(config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show every pushed model: what it learned from, how good it was, when it served, and what became of it.

    \b
    Example:
      perennial model list
      perennial model list --json | jq '.[] | select(.is_champion)'
    """
    from ledger.ledger import Ledger
    from pipeline.config import load_config
    from pipeline.registry import list_models

    config = load_config(config_path, overrides)
    models: tuple[ModelStatus, ...] = ()
    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            models = list_models(config, ledger)
    if as_json:
        _print_json([entry.model_dump(mode="json") for entry in models])
    elif not models:
        click.echo(f"Pipeline {config.name} has pushed no model yet. Run `perennial run --next`.")
    else:
        make_console().print(_table(config, models))
        if len(models) > MAX_MODEL_ROWS:
            click.echo(f"{len(models) - MAX_MODEL_ROWS} older models are not shown; `--json` has all.")


@model.command(short_help="Let a model serve.")
@_version
@_reason
@config_options
@json_option
def promote(version: int, reason: str | None, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Make a pushed model the champion; it serves when the command returns.

    \b
    Example:
      perennial model promote 7
    """
    from pipeline import registry

    with _opened(config_path, overrides) as (config, ledger):
        _print_promotion(ledger, registry.promote(config, ledger, version, reason=reason), as_json=as_json)


@model.command(short_help="Let the champion before this one serve again.")
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="Go back to this model.")
@_reason
@config_options
@json_option
def rollback(to: int | None, reason: str | None, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Go back to the champion before this one, or to a version; it serves when the command returns.

    Again, it goes one further back: what was rolled back from is not returned to.

    \b
    Example:
      perennial model rollback --reason "too many alarms"
      perennial model rollback --to 3
    """
    from pipeline import registry

    with _opened(config_path, overrides) as (config, ledger):
        _print_promotion(ledger, registry.rollback(config, ledger, to, reason=reason), as_json=as_json)


@model.command(short_help="Keep a model whatever its age.")
@_version
@config_options
@json_option
def pin(version: int, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Keep a model, and all that it descends from, whatever its age.

    \b
    Example:
      perennial model pin 3
    """
    from pipeline import registry

    with _opened(config_path, overrides) as (_, ledger):
        registry.pin(ledger, version)
    _print_pinned(version, is_pinned=True, as_json=as_json)


@model.command(short_help="Let a pinned model grow old.")
@_version
@config_options
@json_option
def unpin(version: int, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Let a pinned model be removed when its time comes.

    \b
    Example:
      perennial model unpin 3
    """
    with _opened(config_path, overrides) as (_, ledger):
        ledger.unpin(version)
    _print_pinned(version, is_pinned=False, as_json=as_json)


@model.command(short_help="Remove models and files that nothing needs.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@config_options
@json_option
def gc(dry_run: bool, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Remove models that are not kept, and all files that no kept model and no plan needs.

    Kept are the champion, pinned models, the newest ones (`registry.keep_last`), and everything that they descend from.
    Lineage goes on answering about what was removed.

    \b
    Example:
      perennial model gc --dry-run
      perennial model gc
    """
    from pipeline.collection import find_garbage, remove_garbage
    from pipeline.leadership import leading

    with _opened(config_path, overrides) as (config, ledger):
        if dry_run:
            garbage = find_garbage(config, ledger)
        else:
            # The lease, since a cycle that runs meanwhile could lose what its plan has chosen.
            with leading(ledger, config.worker.lease_ttl_seconds):
                garbage = find_garbage(config, ledger)
                remove_garbage(config, ledger, garbage)
    if as_json:
        found = garbage.model_dump(mode="json", include={"versions", "doomed", "num_remote"})
        _print_json({"dry_run": dry_run, **found})
    else:
        _print_garbage(garbage, is_dry_run=dry_run)


@contextmanager
def _opened(config_path: Path, overrides: tuple[str, ...]) -> "Iterator[tuple[Config, Ledger]]":
    """Yield config and ledger; where there is no ledger, there is no model to speak of, and none is made."""
    from ledger.ledger import Ledger
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    if not Ledger.exists(config.ledger_url):
        raise LedgerError(
            f"Pipeline {config.name!r} has pushed no model yet. Expected a run that pushed one. "
            "Run `perennial run --next`."
        )
    with Ledger.open(config.ledger_url, config.name) as ledger:
        yield config, ledger


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=1))


def _print_promotion(ledger: "Ledger", promotion: "Promotion", *, as_json: bool) -> None:
    if as_json:
        _print_json(promotion.model_dump(mode="json"))
        return
    if promotion.previous == promotion.version:
        click.echo(f"Version {promotion.version} is the champion already, and it serves.")
    else:
        before = "none" if promotion.previous is None else f"version {promotion.previous}"
        click.echo(f"Version {promotion.version} is the champion now, and it serves; before it: {before}.")
    if promotion.is_restored:
        click.echo("Files of it were missing in the serving folder; they came back from its Model artifact.")
    if ledger.open_run() is not None:
        click.echo("A cycle is under way; what it has trained will be judged against this champion.")


def _print_pinned(version: int, *, is_pinned: bool, as_json: bool) -> None:
    if as_json:
        _print_json({"version": version, "is_pinned": is_pinned})
    else:
        click.echo(f"Version {version} is {'pinned: it is kept whatever its age' if is_pinned else 'not pinned'}.")


def _print_garbage(garbage: "Garbage", *, is_dry_run: bool) -> None:
    if garbage.num_remote:
        click.echo(
            f"{garbage.num_remote:,} artifacts that nothing needs any more lie in an object store, which this command "
            "never changes. They stay, and are not counted."
        )
    if not garbage.doomed and not garbage.versions:
        click.echo("There is nothing to remove.")
        return
    counts, sizes = Counter[str](), Counter[str]()
    for entry in garbage.doomed:
        counts[entry.kind] += 1
        sizes[entry.kind] += entry.num_bytes
    named = ", ".join(map(str, garbage.versions[-MAX_NAMED_VERSIONS:])) or "none"
    more = " and older ones" if len(garbage.versions) > MAX_NAMED_VERSIONS else ""
    click.echo(f"{'Would remove' if is_dry_run else 'Removed'} {_size(sizes.total())}; model versions: {named}{more}.")
    for kind in sorted(counts, key=lambda kind: (-sizes[kind], kind)):
        click.echo(f"  {counts[kind]:>6,}  {kind:<20} {_size(sizes[kind]):>10}")
    if is_dry_run:
        click.echo("Nothing was changed.")


def _size(num_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(num_bytes)


def _table(config: "Config", models: "tuple[ModelStatus, ...]") -> "Table":
    from rich import box
    from rich.table import Table

    from schemas.gate import HEADLINE_METRIC

    metric = HEADLINE_METRIC[config.label.task]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("", "version", "span", "newest", "base", "warm"):
        table.add_column(name, justify="right")
    table.add_column(metric, justify="right")
    table.add_column("pushed (UTC)")
    table.add_column("state")
    for entry in models[-MAX_MODEL_ROWS:]:
        measured = entry.metrics.get(metric)
        table.add_row(
            "*" if entry.is_champion else "",
            str(entry.version),
            str(entry.span),
            str(entry.newest_span),
            "cold" if entry.base_version is None else str(entry.base_version),
            str(entry.line_length),
            "" if measured is None else f"{measured:.4f}",
            f"{entry.pushed_at:%Y-%m-%d %H:%M}",
            _state(entry),
            style="green" if entry.is_champion else "dim" if entry.removed_at else None,
        )
    return table


def _state(entry: "ModelStatus") -> str:
    words = []
    if entry.is_champion:
        words.append(f"champion since {entry.reigns[-1].since:%Y-%m-%d %H:%M}")
    elif entry.removed_at is not None:
        words.append(f"removed on {entry.removed_at:%Y-%m-%d}")
    else:
        last = entry.reigns[-1].until if entry.reigns else None
        words.append(f"served until {last:%Y-%m-%d %H:%M}" if last else "never served")
        words += ["hidden"] if entry.is_hidden else []
    words += ["pinned"] if entry.is_pinned else []
    return ", ".join(words)
