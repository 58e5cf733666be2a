"""`Spans`: what became of each span, with every step on the way. How they come in is in `arrivals`."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select, tuple_, update

from core.errors import LedgerError
from ledger import tables
from ledger.rows import PipelineRows
from schemas.ledger_records import TRANSITIONS, SpanOutcome, SpanRecord, SpanState, Transition
from schemas.spans import SpanRef

# Where a span may be from which the window of another span's cycle takes it.
_HISTORY_STATES = ("arrived", "skipped", "rejected")


class Spans(PipelineRows):
    """The span part of the ledger."""

    def spans(self, first: int | None = None, last: int | None = None) -> list[SpanRecord]:
        """Return all versions of all spans from `first` to `last`, both included, by span and version."""
        columns = tables.spans.c
        bounds = [columns.span >= first] if first is not None else []
        bounds += [columns.span <= last] if last is not None else []
        return self._span_records(*bounds, order_by=[columns.span, columns.version, columns.id])

    def span(self, ref: SpanRef) -> SpanRecord:
        """Return what is known about one version of one span.

        Raises:
            LedgerError: it was never registered.
        """
        records = self._span_records(_is_span(ref))
        if not records:
            raise LedgerError(
                f"Span {ref.span} version {ref.version} with digest {ref.digest[:12]!r} is not in the ledger of "
                f"{self.pipeline!r}. Expected a registered span. Ingest it, and register it from its manifest."
            )
        return records[0]

    def versions_of(self, span: int) -> list[SpanRecord]:
        """Return every version of a span, oldest first."""
        return self.spans(span, span)

    def transitions(self, span: int) -> list[Transition]:
        """Return every step of all versions of a span, in the order they were made."""
        columns = tables.transitions.c
        rows = self._rows(tables.transitions, columns.span == span, order_by=[columns.id])
        return [Transition.model_validate(row) for row in rows]

    def move_span(
        self, ref: SpanRef, to_state: SpanState, *, run_id: str | None = None, reason: str | None = None, **outcome: Any
    ) -> SpanRecord:
        """Move a span one step. The same step again by the same run is allowed, so that a killed run can repeat it.

        A version that is put back to `arrived` after a newer one has come becomes `superseded` instead.

        Args:
            ref: The span's version.
            to_state: Where to; `TRANSITIONS` says from where.
            run_id: The run that moves it, if one does.
            reason: One sentence for a reader.
            outcome: Further fields of `SpanOutcome` to set; all others stay as they are.

        Raises:
            LedgerError: the span was never registered, or there is no such step from where it is.
        """
        values = SpanOutcome.model_validate({"state": to_state, "run_id": run_id, "reason": reason, **outcome})
        return self._move(ref, values.model_dump(include={"state", "run_id", "reason", *outcome}))

    def finish_span(self, ref: SpanRef, outcome: SpanOutcome) -> SpanRecord:
        """Make the last step of a cycle, with all that it found out; saying it again for the same run is allowed.

        Raises:
            LedgerError: the span was never registered, or there is no such step from where it is.
        """
        return self._move(ref, outcome.model_dump())

    def finish_history(self, refs: Iterable[SpanRef], *, run_id: str, reason: str) -> int:
        """Record spans as trained because a run's window held them; other ends than skipped and rejected stay.

        Returns:
            How many changed.
        """
        columns = tables.spans.c
        with self._writing() as connection:
            is_history = (columns.pipeline == self.pipeline, _is_span(*refs), columns.state.in_(_HISTORY_STATES))
            records = self._span_records(*is_history, order_by=[columns.id])
            steps = [step_of(r.ref, r.state, "trained", run_id=run_id, reason=reason) for r in records]
            self._record_steps(connection, steps)
            # The buffer of a cycle that was refused before is not the newest one, which the row's new time would claim.
            values = {"state": "trained", "run_id": run_id, "reason": reason, "replay_uri": None}
            changes = update(tables.spans).where(*is_history).values(**values, updated_at=self._clock.now())
            connection.execute(changes)
        return len(records)

    def _move(self, ref: SpanRef, values: dict[str, Any]) -> SpanRecord:
        columns = tables.spans.c
        is_ours = (columns.pipeline == self.pipeline, _is_span(ref))
        with self._writing() as connection:
            before = connection.execute(select(tables.spans).where(*is_ours)).mappings().one_or_none()
            if before is None:
                return self.span(ref)  # raises
            if values["state"] == "arrived" and (newer := self._newer_version(connection, before)) is not None:
                values = {**values, "state": "superseded", "reason": f"version {newer} has arrived"}
            state, run_id = values["state"], values["run_id"]
            repeats = before["state"] == state and run_id is not None and run_id == before["run_id"]
            allowed = [origin for origin, targets in TRANSITIONS.items() if state in targets]
            may_move = columns.state.in_([state] if repeats else allowed)
            changes = {**values, "updated_at": self._clock.now()}
            if connection.execute(update(tables.spans).where(*is_ours, may_move).values(changes)).rowcount == 0:
                raise _refusal(ref, before["state"], before["run_id"], values)
            if not repeats:
                step = step_of(ref, before["state"], state, run_id=run_id, reason=values["reason"])
                self._record_steps(connection, [step])
            return self.span(ref)

    def _newer_version(self, connection: Connection, row: RowMapping) -> int | None:
        columns = tables.spans.c
        age = tuple_(columns.version, columns.id)
        is_newer = (columns.pipeline == self.pipeline, columns.span == row["span"], age > (row["version"], row["id"]))
        newest: int | None = connection.execute(select(func.max(columns.version)).where(*is_newer)).scalar()
        return newest

    def _span_records(self, *where: ColumnElement[bool], **how: Any) -> list[SpanRecord]:
        return [SpanRecord.model_validate(row) for row in self._rows(tables.spans, *where, **how)]

    def _record_steps(self, connection: Connection, steps: Iterable[Mapping[str, Any]]) -> None:
        now = self._clock.now()
        self._insert(connection, tables.transitions, [{**step, "token": self._token, "at": now} for step in steps])


def step_of(
    ref: SpanRef, from_state: str | None, to_state: str, *, run_id: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    """Return the row of `transitions` for one step, without whose and when."""
    return ref.model_dump() | {"from_state": from_state, "to_state": to_state, "run_id": run_id, "reason": reason}


def _is_span(*refs: SpanRef) -> ColumnElement[bool]:
    columns = tables.spans.c
    return tuple_(columns.span, columns.version, columns.digest).in_(
        [(ref.span, ref.version, ref.digest) for ref in refs]
    )


def _refusal(ref: SpanRef, state: SpanState, run_id: str | None, wanted: Mapping[str, Any]) -> LedgerError:
    targets = " or ".join(sorted(TRANSITIONS[state])) or "no other state"
    return LedgerError(
        f"Span {ref.span} version {ref.version} is already {state}, made so by run {run_id!r}. Expected a move to "
        f"{targets}; received state={wanted['state']!r} from run_id={wanted['run_id']!r}. "
        "Leave it, or ingest a corrected version."
    )
