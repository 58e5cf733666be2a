"""Which blessed candidate may serve: one that has learned from data at least as new as the champion's."""

from schemas.ledger_records import ModelRecord


def moves_backwards(model: ModelRecord, champion: ModelRecord | None) -> str | None:
    """Return why `model` must not replace `champion`, or None if it may.

    A backfill of an old span may well make a model that scores better on that span; it would still have forgotten, or
    never known, what came later.
    """
    if champion is None or newest_span(model) >= newest_span(champion):
        return None
    return (
        f"Not promoted: it has learned from nothing newer than span {newest_span(model)}, and champion version "
        f"{champion.version} from spans up to {newest_span(champion)}. A champion never moves backwards."
    )


def newest_span(model: ModelRecord) -> int:
    """Return the newest span that a model or an ancestor learned from."""
    return model.span if model.newest_span is None else model.newest_span
