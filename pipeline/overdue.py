"""Spans that should be there and are not, in sentences for people: overdue, missing in between, or broken."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from pipeline.due import Look, word
from schemas.ledger_records import SpanRecord

MAX_UNUSABLE = 10


def alerts(look: Look) -> Iterator[str]:
    """Yield what people should look into; each sentence stays the same for as long as its cause lasts."""
    expected = expected_at(look)
    if expected is not None and expected <= look.now:
        yield (
            f"Span {look.view.newest_span} is the last that came; another was expected by {word(expected)}. Look at "
            "what writes them."
        )
    for record in look.waiting:
        if look.held.get(record.span, look.now) <= look.now and missing(look, record):
            yield (
                f"{missing(look, record)} when span {record.span} had waited long enough. Span {record.span} goes on; "
                "what comes late is run then."
            )
    for _, why in sorted(look.view.unusable.items())[:MAX_UNUSABLE]:
        yield why


def expected_at(look: Look) -> datetime | None:
    """Return when the next span is overdue; None where none is expected."""
    seconds, newest = look.options.expected_every_seconds, look.view.newest_arrived_at
    return None if seconds is None or newest is None else newest + timedelta(seconds=seconds)


def missing(look: Look, record: SpanRecord) -> str:
    """Return what is missing right before a waiting span, as the first half of a sentence; empty where nothing is."""
    first, last = look.view.predecessors.get(record.span, record.span - 1) + 1, record.span - 1
    if first > last:
        return ""
    names = f"Span {first}" if first == last else f"Spans {first} to {last}"
    broken = [str(span) for span in range(first, last + 1)[:MAX_UNUSABLE] if span in look.view.unusable]
    why = f" ({', '.join(broken)} cannot be used)" if broken else ""
    return f"{names} had not come{why}"
