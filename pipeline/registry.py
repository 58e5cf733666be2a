"""The registry of pushed models: which one serves, and by whose word. What goes, `pipeline.collection` decides.

A command takes no lease: the champion pointer moves by compare-and-swap, and a cycle that runs meanwhile finds that the
champion moved and judges its candidate again.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime

from core.errors import LedgerError, ServingError
from ledger.ledger import Ledger
from pipeline.config import Config
from pipeline.decision import DECISION_NAME
from pipeline.kubeflow.uris import is_remote, local_path
from schemas.base import Record
from schemas.ledger_records import ChampionMove, ModelRecord
from schemas.model_layout import SERVING_FOLDER
from serving.version_store import HIDDEN_PREFIX, locate, reconcile, restore, versions

PROMOTE = "promote"
ROLLBACK = "rollback"


class Promotion(Record):
    """What a command changed.

    Attributes:
        version: The champion now.
        previous: The champion before; the same where nothing had to move.
        is_restored: Files of the version were missing in the serving folder and came back from its Model artifact.
    """

    version: int
    previous: int | None
    is_restored: bool


class Reign(Record):
    """A time in which a model was the champion; `until` is None while it lasts."""

    since: AwareDatetime
    until: AwareDatetime | None = None


class ModelStatus(Record):
    """A pushed model, as `perennial model list` shows it.

    Attributes:
        newest_span: Newest span that it or an ancestor learned from.
        base_version: Version of the model it started from; None for a cold start.
        line_length: Warm starts since the line's cold start.
        metrics: What the gate measured of it over the whole split; empty where the decision record is gone.
        is_hidden: Servers don't see it: it lies above the champion, or nowhere.
        reigns: When it was the champion, oldest first.
        removed_at: When garbage collection removed its files; None while they are there.
    """

    version: int
    span: int
    newest_span: int
    base_version: int | None
    line_length: int
    pushed_at: AwareDatetime
    metrics: dict[str, float]
    is_champion: bool
    is_pinned: bool
    is_hidden: bool
    reigns: tuple[Reign, ...]
    removed_at: AwareDatetime | None


def promote(config: Config, ledger: Ledger, version: int, *, by: str = PROMOTE, reason: str | None = None) -> Promotion:
    """Make a model the champion, in the ledger and then in serving; both are done when this returns.

    Its files are made whole first, so that what can fail for long fails before anything has changed. Killed in between,
    the command may be repeated, and the next cycle finishes it in any case.

    Args:
        config: The pipeline's config.
        ledger: Its ledger.
        version: A pushed model whose files were not removed.
        by: What asks, for the record of the move.
        reason: Why, in the words of whoever asked.

    Raises:
        LedgerError: no such model, it was removed, or the champion moved while this ran.
        ServingError: neither the serving folder nor a Model artifact within reach holds it whole.
    """
    champion = ledger.champion()
    previous = champion.version if champion else None
    model = ledger.model(version)
    _check_present(model)
    is_restored = restore(config.serving_path, version, _artifact(config, model))
    if not ledger.promote(previous, version, by=by, reason=reason):
        now = ledger.champion()
        raise LedgerError(
            f"The champion moved while version {version} was being promoted. Expected champion={previous}; received "
            f"champion={now.version if now else None}. Nothing was changed: look at `perennial model list`, and decide "
            "again."
        )
    serve_champion(config, ledger)
    return Promotion(version=version, previous=previous, is_restored=is_restored)


def rollback(config: Config, ledger: Ledger, to: int | None = None, *, reason: str | None = None) -> Promotion:
    """Go back to the champion before this one, or to a version that is named.

    Args:
        config: The pipeline's config.
        ledger: Its ledger.
        to: The version; None: see `rollback_target`.
        reason: Why, in the words of whoever asked.

    Raises:
        LedgerError: there is nothing to go back to, or as `promote`.
        ServingError: as `promote`.
    """
    if to is None:
        removed = [model.version for model in ledger.models() if model.removed_at is not None]
        to = rollback_target(ledger.champion_moves(), removed)
    if to is None:
        champion = ledger.champion()
        raise LedgerError(
            "There is nothing to roll back to. Expected an earlier champion that was neither removed nor rolled back "
            f"from; received champion={champion.version if champion else None}. Name a version with --to, one of "
            "`perennial model list`."
        )
    return promote(config, ledger, to, by=ROLLBACK, reason=reason)


def rollback_target(moves: Iterable[ChampionMove], removed: Collection[int]) -> int | None:
    """Return the champion before the present one, or None.

    A second rollback goes further back and not forth again: what was rolled back from is no target until somebody, or a
    cycle, promotes it again.

    Args:
        moves: Every move of the champion pointer, oldest first.
        removed: Versions whose files are gone.
    """
    past: list[int] = []
    refused: set[int] = set()
    current: int | None = None
    for move in moves:
        if move.previous is not None and move.by == ROLLBACK:
            refused.add(move.previous)
            while move.version in past:
                past.pop()
        elif move.previous is not None:
            past.append(move.previous)
        refused.discard(move.version)
        current = move.version
    unwanted = {*refused, *removed, current}
    return next((version for version in reversed(past) if version not in unwanted), None)


def pin(ledger: Ledger, version: int) -> None:
    """Keep a model whatever its age.

    Raises:
        LedgerError: no such model, or it was removed.
    """
    ledger.pin(version)
    # Looked at afterwards, since garbage collection may have been quicker.
    model = ledger.model(version)
    if model.removed_at is not None:
        ledger.unpin(version)
    _check_present(model)


def serve_champion(config: Config, ledger: Ledger) -> None:
    """Make serving show the ledger's champion as its highest version, whatever happened to the folder.

    Inside the fence, so that of two commands at once the later one's champion is also shown last.

    Raises:
        ServingError: it is whole nowhere.
        UnavailableError: the disk is full, or the folder went away.
    """
    with ledger.fenced():
        champion = ledger.champion()
        if champion is not None:
            reconcile(config.serving_path, champion.version, _artifact(config, champion))


def list_models(config: Config, ledger: Ledger) -> tuple[ModelStatus, ...]:
    """Return every model that was ever pushed, oldest first."""
    champion = ledger.champion()
    visible = set(versions(config.serving_path))
    moves = ledger.champion_moves()
    return tuple(
        ModelStatus(
            version=model.version,
            span=model.span,
            newest_span=model.span if model.newest_span is None else model.newest_span,
            base_version=model.base_version,
            line_length=model.line_length,
            pushed_at=model.pushed_at,
            metrics=_metrics(config.runs_path / model.run_id / DECISION_NAME),
            is_champion=champion is not None and champion.version == model.version,
            is_pinned=model.is_pinned,
            is_hidden=model.version not in visible,
            reigns=_reigns(model.version, moves),
            removed_at=model.removed_at,
        )
        for model in ledger.models()
    )


def _artifact(config: Config, model: ModelRecord) -> Path:
    """Return the SavedModel in a Model artifact; one in an object store is only where a launcher has brought it.

    Raises:
        ServingError: it is needed, since the serving folder has nothing of the version, and nobody has brought it.
    """
    folder = local_path(model.model_uri) / SERVING_FOLDER
    base = config.serving_path
    if is_remote(model.model_uri) and not folder.is_dir() and locate(base, model.version) is None:
        raise ServingError(
            f"Version {model.version} is not in {str(base)!r}, and its Model artifact lies in an object store that is "
            f"not reached from here. Expected one of both. Copy '{model.model_uri}/{SERVING_FOLDER}' to "
            f"'{base}/{HIDDEN_PREFIX}{model.version}' and repeat this."
        )
    return folder


def _check_present(model: ModelRecord) -> None:
    if model.removed_at is not None:
        raise LedgerError(
            f"The files of model version {model.version} were removed on {model.removed_at:%Y-%m-%d}. Expected a model "
            f"that is still there; received version={model.version}. Choose another of `perennial model list`."
        )


def _reigns(version: int, moves: Sequence[ChampionMove]) -> tuple[Reign, ...]:
    ends = [*(move.at for move in moves[1:]), None]
    return tuple(
        Reign(since=move.at, until=end) for move, end in zip(moves, ends, strict=True) if move.version == version
    )


def _metrics(path: Path) -> dict[str, float]:
    """Read the gate's metrics; a decision record that is gone or of another release has none to offer."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        measured = (document.get("gate") or {}).get("candidate") or {}
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: value for name, value in measured.items() if isinstance(value, float | int)}
