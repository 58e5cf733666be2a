"""`Spans`: which spans have arrived and what became of them, with every step on the way."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, func, select, tuple_, update

from core.errors import LedgerError
from ledger import tables
from ledger.rows import PipelineRows
from schemas.ledger_records import TRANSITIONS, SpanArrival, SpanOutcome, SpanRecord, SpanState, Transition
from schemas.spans import SpanRef

# States of a span that no cycle has finished with; `trained` is one of them only while its run is open.
_OPEN_STATES = ("arrived", "validated", "evaluated", "quarantined")
_HISTORY_STATES = ("arrived", "skipped", "rejected")


class _Version(NamedTuple):
    """A version of a span, known or new; `id` is None for a new one."""

    ref: SpanRef
    id: int | None
    state: SpanState
    run_id: str | None = None


class Spans(PipelineRows):
    """The span part of the ledger."""

    def register_spans(self, arrivals: Iterable[SpanArrival]) -> int:
        """Record versions of spans as arrived; those already known stay as they are.

        Of several versions of a span only the newest is worked on: an older one that no cycle has finished with becomes
        `superseded`, and so does one that turns up after a newer one.

        Returns:
            How many were not known.
        """
        found = {_key(arrival.ref): arrival for arrival in arrivals}
        if not self._without_known(found):
            return 0
        with self._writing() as connection:
            # Asked again under the lock: another process may have registered them meanwhile.
            new = self._without_known(found)
            superseded = self._superseded_by(connection, new)
            self._insert_arrivals(connection, new, superseded)
            self._supersede(connection, superseded)
        return len(new)

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
        columns, now = tables.spans.c, self._clock.now()
        with self._writing() as connection:
            is_history = (columns.pipeline == self.pipeline, _is_span(*refs), columns.state.in_(_HISTORY_STATES))
            rows = connection.execute(select(tables.spans).where(*is_history).order_by(columns.id)).mappings().all()
            steps = [_step(dict(row), row["state"], "trained", run_id, reason) for row in rows]
            self._record_steps(connection, steps)
            values = {"state": "trained", "run_id": run_id, "reason": reason, "updated_at": now}
            connection.execute(update(tables.spans).where(columns.id.in_([row["id"] for row in rows])).values(values))
        return len(rows)

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
                step = _step(ref.model_dump(), before["state"], state, run_id, values["reason"])
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

    def _without_known(self, found: Mapping[tuple[int, int, str], SpanArrival]) -> list[SpanArrival]:
        if not found:
            return []
        columns = tables.spans.c
        # One range, since as many keys as there may be are more than a statement takes.
        is_near = columns.span.between(min(found)[0], max(found)[0])
        statement = select(columns.span, columns.version, columns.digest)
        with self._database.reading() as connection:
            rows = connection.execute(statement.where(columns.pipeline == self.pipeline, is_near)).all()
        known = {(span, version, digest) for span, version, digest in rows}
        return [arrival for key, arrival in found.items() if key not in known]

    def _superseded_by(self, connection: Connection, new: Collection[SpanArrival]) -> dict[_Version, SpanRef]:
        """Return the open versions, known and new, that a newer one of the same span makes void, and which."""
        columns, runs = tables.spans.c, tables.runs.c
        spans = {arrival.ref.span for arrival in new}
        if not spans:
            return {}
        is_near = columns.span.between(min(spans), max(spans))
        names = (columns.span, columns.version, columns.digest, columns.id, columns.state, columns.run_id)
        rows = connection.execute(select(*names).where(columns.pipeline == self.pipeline, is_near))
        versions: dict[int, list[_Version]] = {span: [] for span in spans}
        for span, version, digest, row_id, state, run_id in rows:
            if span in spans:
                ref = SpanRef(span=span, version=version, digest=digest)
                versions[span].append(_Version(ref, row_id, state, run_id))
        for arrival in new:
            versions[arrival.ref.span].append(_Version(arrival.ref, None, "arrived"))
        is_open_run = (runs.pipeline == self.pipeline, runs.outcome.is_(None))
        open_runs = set(connection.execute(select(runs.run_id).where(*is_open_run)).scalars())
        superseded = {}
        for of_span in versions.values():
            newest = max(of_span, key=_age)
            for version in of_span:
                is_open = version.state in _OPEN_STATES or (version.state == "trained" and version.run_id in open_runs)
                if version is not newest and is_open:
                    superseded[version] = newest.ref
        return superseded

    def _insert_arrivals(
        self, connection: Connection, new: Collection[SpanArrival], superseded: Mapping[_Version, SpanRef]
    ) -> None:
        now = self._clock.now()
        late = {version.ref: newest for version, newest in superseded.items() if version.id is None}
        rows, steps = [], []
        for arrival in new:
            newest = late.get(arrival.ref)
            state = "arrived" if newest is None else "superseded"
            reason = None if newest is None else f"version {newest.version} was there first"
            more = arrival.model_dump(exclude={"ref"}) | {"reason": reason, "arrived_at": now, "updated_at": now}
            rows.append(arrival.ref.model_dump() | more | {"state": state})
            steps.append(_step(arrival.ref.model_dump(), None, state, None, reason))
        self._insert(connection, tables.spans, rows)
        self._record_steps(connection, steps)

    def _supersede(self, connection: Connection, superseded: Mapping[_Version, SpanRef]) -> None:
        known = [(version, newest) for version, newest in superseded.items() if version.id is not None]
        if not known:
            return
        reasons = {version.id: f"version {newest.version} has arrived" for version, newest in known}
        statement = update(tables.spans).where(tables.spans.c.id == bindparam("row"))
        changes = statement.values(state="superseded", reason=bindparam("why"), updated_at=self._clock.now())
        connection.execute(changes, [{"row": row, "why": reason} for row, reason in reasons.items()])
        self._record_steps(
            connection,
            [_step(v.ref.model_dump(), v.state, "superseded", v.run_id, reasons[v.id]) for v, _ in known],
        )

    def _record_steps(self, connection: Connection, steps: Iterable[Mapping[str, Any]]) -> None:
        now = self._clock.now()
        self._insert(connection, tables.transitions, [{**step, "token": self._token, "at": now} for step in steps])


def _key(ref: SpanRef) -> tuple[int, int, str]:
    return ref.span, ref.version, ref.digest


def _age(version: _Version) -> tuple[int, bool, int]:
    # Of the same version with other content, the one that was registered last.
    return version.ref.version, version.id is None, version.id or 0


def _step(
    key: Mapping[str, Any], from_state: str | None, to_state: str, run_id: str | None, reason: str | None
) -> dict[str, Any]:
    names = {name: key[name] for name in ("span", "version", "digest")}
    return {**names, "from_state": from_state, "to_state": to_state, "run_id": run_id, "reason": reason}


def _is_span(*refs: SpanRef) -> ColumnElement[bool]:
    columns = tables.spans.c
    return tuple_(columns.span, columns.version, columns.digest).in_([_key(ref) for ref in refs])


def _refusal(ref: SpanRef, state: SpanState, run_id: str | None, wanted: Mapping[str, Any]) -> LedgerError:
    targets = " or ".join(sorted(TRANSITIONS[state])) or "no other state"
    return LedgerError(
        f"Span {ref.span} version {ref.version} is already {state}, made so by run {run_id!r}. Expected a move to "
        f"{targets}; received state={wanted['state']!r} from run_id={wanted['run_id']!r}. "
        "Leave it, or ingest a corrected version."
    )
