"""`perennial lineage`: what made a model, and what learned from a span. What rests on a bad span is in `cli.taint`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from cli.taint import taint
from core.errors import ConfigError, LineageError

if TYPE_CHECKING:
    from lineage.records import BaseModelRef, Ingredient, LearnedSpan, Learner, ModelLineage, SpanLineage
    from pipeline.config import Config

CHAMPION = "champion"
NOT_RECORDED = "unknown: not recorded"
# Enough of a digest to tell contents apart by eye; `--json` has all 64 digits.
SHORT_DIGEST_CHARS = 12
# Spans and base models that are named, the newest; `--json` has all.
MAX_LISTED = 3


@click.group(short_help="Show what made a model, or what learned from a span.")
def lineage() -> None:
    r"""Ask where a model came from, which models learned from a span, or what a bad span has tainted.

    \b
    Example:
      perennial lineage model champion
      perennial lineage span 9 --json
      perennial lineage taint 9
    """


lineage.add_command(taint)


@lineage.command(short_help="Show everything that made a model.")
@click.argument("version", metavar="VERSION|champion")
@config_options
@json_option
def model(version: str, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show the spans, base models, transform graph, schema, config and code that made a pushed model.

    \b
    Example:
      perennial lineage model champion
      perennial lineage model 7 --json
    """
    from lineage.graph import load_models
    from lineage.queries import find_model, model_lineage
    from lineage.store import opened_store
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    number = _version_of(config, version)
    with opened_store(config.metadata_url) as store:
        graph = load_models(store, evaluated=[number])
    answer = model_lineage(graph, find_model(graph, number))
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json", by_alias=True), indent=1))
    else:
        print_model(answer)


@lineage.command(short_help="Show every model that learned from a span.")
@click.argument("span", type=click.IntRange(min=0), metavar="SPAN")
@config_options
@json_option
def span(span: int, config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Show every model, pushed or not, that learned from a span, directly or through a warm start.

    \b
    Example:
      perennial lineage span 9
    """
    from lineage.graph import load_models
    from lineage.queries import span_lineage
    from lineage.store import opened_store
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    with opened_store(config.metadata_url) as store:
        answer = span_lineage(load_models(store, evaluated=()), span)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json"), indent=1))
    else:
        print_span(answer)


def _version_of(config: "Config", version: str) -> int:
    """Return the number that the user means; which model is champion only the ledger knows."""
    from ledger.ledger import Ledger

    if version.isdecimal():
        return int(version)
    if version != CHAMPION:
        raise ConfigError(
            f"Model {version!r} is no version. Expected a number or 'champion'; received version={version!r}. "
            "Look the versions up with `perennial status`."
        )
    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            if champion := ledger.champion():
                return champion.version
    raise LineageError(
        f"Pipeline {config.name!r} has no champion yet. Expected a run that pushed a model. Run `perennial run --next`."
    )


def print_model(answer: "ModelLineage") -> None:
    """Print a model's origins, one line each."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    rows = {
        "model": f"{_model_name(answer.version)}  {_short(answer.digest)}  {answer.uri}{_fate(answer)}",
        "made": f"{answer.created_at:%Y-%m-%d %H:%M} UTC by run {answer.run_id or NOT_RECORDED}, "
        f"{answer.initialisation or NOT_RECORDED} start" + (f". {why}" if (why := answer.initialisation_why) else ""),
        "trained on": _spans_text([ref for ref in answer.spans if ref.direct]) or NOT_RECORDED,
        "replayed": _replay_text(answer),
        "inherited": _spans_text([ref for ref in answer.spans if not ref.direct]) or "nothing",
        "base models": _folded([_base_model_text(base) for base in answer.base_models], " <- ") or "none",
        "transform": _ingredient_text(answer.transform_graph),
        "schema": _ingredient_text(answer.reviewed_schema),
        "config": _short(answer.config.digest),
        "code": _short(answer.code.digest),
        "held near base": json.dumps(answer.regularisation) if answer.regularisation else "no",
        "training": json.dumps(answer.hyperparameters) if answer.hyperparameters else NOT_RECORDED,
        "evaluation": _evaluation_text(answer),
    }
    for name, text in rows.items():
        grid.add_row(name, Text(text))
    for sentence in answer.unknown:
        grid.add_row("unknown", Text(sentence))
    make_console().print(grid)


def print_span(answer: "SpanLineage") -> None:
    """Print the models that learned from a span, one line each; unlike a table, lines are never cut."""
    if not answer.models:
        click.echo(f"No model learned from span {answer.span}.")
    for learner in answer.models:
        how = "directly" if learner.direct else "through a warm start"
        click.echo(
            f"{_model_name(learner.version):<12} learned from span {answer.span} v{learner.span_version} {how:<20}  "
            f"{_short(learner.digest)}  {learner.uri}{_fate(learner)}"
        )


def _model_name(version: int | None) -> str:
    return "not pushed" if version is None else f"version {version}"


def _base_model_text(base: "BaseModelRef") -> str:
    span = NOT_RECORDED if base.span is None else base.span
    return f"{_model_name(base.version)} (span {span}) {_short(base.digest)}{_fate(base)}"


def _fate(artifact: "ModelLineage | BaseModelRef | Learner | Ingredient") -> str:
    return " (files removed)" if artifact.is_removed else ""


def _short(digest: str | None) -> str:
    return NOT_RECORDED if digest is None else digest[:SHORT_DIGEST_CHARS]


def _spans_text(refs: "list[LearnedSpan]") -> str:
    return _folded([f"span {ref.span} v{ref.version} {_short(ref.digest)}" for ref in reversed(refs)], ", ")


def _replay_text(answer: "ModelLineage") -> str:
    if answer.replay is None:
        return "nothing"
    texts = [f"span {ref.partition('-')[0]} ({count:,})" for ref, count in answer.replay.members.items()]
    ratio = NOT_RECORDED if answer.replay.ratio is None else f"{answer.replay.ratio:g}"
    return f"{ratio} past examples per new one, from {_folded(texts, ', ') or NOT_RECORDED}"


def _folded(texts: list[str], separator: str) -> str:
    more = [f"{len(texts) - MAX_LISTED} more"] if len(texts) > MAX_LISTED else []
    return separator.join(texts[:MAX_LISTED] + more)


def _ingredient_text(ingredient: "Ingredient") -> str:
    return f"{_short(ingredient.digest)}  {ingredient.uri or NOT_RECORDED}{_fate(ingredient)}"


def _evaluation_text(answer: "ModelLineage") -> str:
    if answer.evaluation is None:
        return NOT_RECORDED
    verdict = {True: "blessed", False: "not blessed", None: f"verdict {NOT_RECORDED}"}[answer.evaluation.blessed]
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in answer.evaluation.metrics.items())
    return f"{verdict}  {metrics}  {answer.evaluation.uri}"
