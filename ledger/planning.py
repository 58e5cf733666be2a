"""`Planning`: the few rows that a plan needs, found by index, however many spans there are."""

from typing import Any

from sqlalchemy import and_, func, or_, select

from ledger import tables
from ledger.spans import Spans
from schemas.ledger_records import SpanRecord

SHADOW_TRIGGER = "shadow"


class Planning(Spans):
    """The part of the ledger that plans are computed from; every answer is as long as its `limit` at most."""

    def open_spans(self, limit: int) -> list[SpanRecord]:
        """Return the oldest spans that no cycle has worked on, by span and version."""
        return self._oldest_arrived(limit=limit)

    def open_corrections(self, last: int, limit: int) -> list[SpanRecord]:
        """Return the oldest versions above the first that no cycle has worked on, of spans up to span `last`."""
        return self._oldest_arrived(tables.spans.c.span <= last, tables.spans.c.version > 1, limit=limit)

    def newest_spans(self, before: int, limit: int) -> list[SpanRecord]:
        """Return the latest version of each of the newest spans before span `before`, newest first."""
        columns, other = tables.spans.c, tables.spans.alias("other").c
        is_newer = or_(other.version > columns.version, and_(other.version == columns.version, other.id > columns.id))
        newer = select(other.id).where(other.pipeline == self.pipeline, other.span == columns.span, is_newer)
        where = (columns.span < before, columns.state != "superseded", ~newer.exists())
        return self._span_records(*where, order_by=[columns.span.desc()], limit=limit)

    def newest_statistics(self, before: int) -> SpanRecord | None:
        """Return the newest span before span `before` that has statistics and was not blocked, or None."""
        columns = tables.spans.c
        is_usable = (columns.statistics_uri.is_not(None), columns.state != "blocked")
        return next(iter(self._newest(columns.span < before, *is_usable, limit=1)), None)

    def newest_replay(self) -> SpanRecord | None:
        """Return the span whose cycle wrote the replay buffer last, or None; spans may be run out of order."""
        columns = tables.spans.c
        order = [columns.updated_at.desc(), columns.span.desc(), columns.version.desc()]
        return next(iter(self._span_records(columns.replay_uri.is_not(None), order_by=order, limit=1)), None)

    def scored_spans(self, after: int, before: int, limit: int) -> list[SpanRecord]:
        """Return the newest spans strictly between `after` and `before` that a champion was scored on, newest first."""
        columns = tables.spans.c
        is_between = (columns.span > after, columns.span < before)
        return self._newest(*is_between, columns.prequential.is_not(None), limit=limit)

    def last_full_training_span(self) -> int | None:
        """Return the newest span of a cold start or of a shadow model, or None before the first."""
        models, runs = tables.models.c, tables.runs.c
        cold = select(func.max(models.span)).where(models.pipeline == self.pipeline, models.base_version.is_(None))
        shadow = select(func.max(runs.span)).where(runs.pipeline == self.pipeline, runs.trigger == SHADOW_TRIGGER)
        with self._database.reading() as connection:
            newest = [connection.execute(statement).scalar() for statement in (cold, shadow)]
        return max((span for span in newest if span is not None), default=None)

    def _oldest_arrived(self, *where: Any, limit: int) -> list[SpanRecord]:
        columns = tables.spans.c
        order = [columns.span, columns.version]
        # MySQL would rather walk in that order through everything that is finished.
        how = {"order_by": order, "limit": limit, "mysql_index": "spans_by_state"}
        return self._span_records(columns.state == "arrived", *where, **how)

    def _newest(self, *where: Any, limit: int) -> list[SpanRecord]:
        columns = tables.spans.c
        order = [columns.span.desc(), columns.version.desc(), columns.id.desc()]
        return self._span_records(*where, order_by=order, limit=limit)
