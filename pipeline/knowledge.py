"""Read from the ledger what a plan may rest on: a few rows, however long the history is."""

import os
from collections.abc import Iterable

from core.errors import DataError
from ledger.ledger import Ledger
from pipeline.config import Config
from pipeline.plan import Knowledge
from schemas.ledger_records import SpanRecord
from schemas.spans import SpanRef
from schemas.training import ModelShape

# Prequential scores that are summarised: by the default fading factor of 0.8, older ones weigh less than a millionth.
MAX_SCORED_SPANS = 64


def read_knowledge(
    ledger: Ledger, config: Config, *, span: int | None = None, unusable: dict[int, str] | None = None
) -> Knowledge:
    """Return what is known about a span and what comes before it.

    Args:
        ledger: The pipeline's ledger; every span on disk is registered.
        config: The pipeline's config.
        span: The span to be planned; None: the one that is next.
        unusable: Why a span's folder cannot be used, by span.
    """
    window = config.window
    # Without a champion the first window is filled from what waits.
    waiting = ledger.open_spans(limit=window.cold_spans + len(unusable or {}))
    if span is None:
        span = waiting[-1].span if waiting else -1
    num_recent = max(window.cold_spans, window.shadow_spans if window.shadow_every_spans else 0, window.warm_spans)
    champion = ledger.champion()
    line_start = None if champion is None else champion.line_start_span
    rows = [
        *waiting,
        *ledger.versions_of(span),
        *ledger.newest_spans(before=span, limit=num_recent),
        *filter(None, (ledger.newest_statistics(before=span), ledger.newest_replay())),
    ]
    scored = ledger.scored_spans(after=-1 if line_start is None else line_start, before=span, limit=MAX_SCORED_SPANS)
    # Of spans that are only far enough back to be summarised, nothing else is read.
    old = [row.model_copy(update={"statistics_uri": None, "replay_uri": None}) for row in scored]
    near = [_without_ghosts(row) for row in rows]
    records = _unique([*old, *near])
    return Knowledge(
        spans=_on_disk(config, _unique(near)),
        unusable=unusable or {},
        records=records,
        champion=champion,
        shape=ModelShape(feature_set=config.feature_set, model=config.training.model),
        line_start_span=line_start,
        last_full_training_span=ledger.last_full_training_span(),
    )


def check_any_span(ledger: Ledger, config: Config, unusable: dict[int, str]) -> None:
    """Refuse to go on where nothing was ever ingested.

    Raises:
        DataError: there is no span, usable or not.
    """
    if not unusable and not ledger.newest_spans(before=2**31 - 1, limit=1):
        raise DataError(
            f"Pipeline {config.name!r} has no spans. Expected some below {str(config.spans_path)!r}. "
            "Run `perennial ingest` first."
        )


def is_there(uri: str) -> bool:
    """Tell whether an artifact's folder is still there; garbage collection may have removed an old one.

    Of a store that is no local folder that is not asked.
    """
    # Not `Path.is_dir`, which makes an object first: a plan asks hundreds of times.
    return "://" in uri or os.path.isdir(uri)


def _without_ghosts(row: SpanRecord) -> SpanRecord:
    gone = {name for name in ("statistics_uri", "replay_uri") if (uri := getattr(row, name)) and not is_there(uri)}
    return row.model_copy(update=dict.fromkeys(gone)) if gone else row


def _unique(rows: Iterable[SpanRecord]) -> tuple[SpanRecord, ...]:
    by_key = {(row.span, row.version, row.digest): row for row in rows}
    return tuple(by_key[key] for key in sorted(by_key))


def _on_disk(config: Config, records: Iterable[SpanRecord]) -> tuple[SpanRef, ...]:
    """Return the latest version of each span whose files are still there, oldest span first."""
    latest: dict[int, SpanRef] = {}
    for record in records:
        if record.state != "superseded" and os.path.isdir(record.ref.folder(config.spans_path)):
            latest[record.span] = record.ref
    return tuple(latest.values())
