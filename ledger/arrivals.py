"""`Arrivals`: spans as they come, late and corrected ones too. Of several versions of a span the newest counts."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from ledger import tables
from ledger.spans import Spans, step_of
from schemas.ledger_records import SpanArrival, SpanState
from schemas.spans import SpanRef

# States of a span that no cycle has finished with; `trained` is one of them only while its run is open.
_OPEN_STATES = ("arrived", "validated", "evaluated", "quarantined")
# As many spans as are looked up one by one; of more, the whole range is read.
_MAX_LISTED_SPANS = 1000


class _Version(NamedTuple):
    """A version of a span, known or new; `row_id` is None for a new one."""

    ref: SpanRef
    row_id: int | None
    state: SpanState
    run_id: str | None = None

    @property
    def age(self) -> tuple[int, bool, int]:
        """What grows with newer versions; of the same version, the content that was registered last is newer."""
        return self.ref.version, self.row_id is None, self.row_id or 0


class Arrivals(Spans):
    """The part of the ledger that takes spans in."""

    def register_spans(self, arrivals: Iterable[SpanArrival]) -> int:
        """Record versions of spans as arrived; those already known stay as they are.

        An older version that no cycle has finished with becomes `superseded`, and so does one that turns up after a
        newer one. What a finished one has tainted is for `perennial lineage taint` to say.

        Returns:
            How many were not known.
        """
        found = {(a.ref.span, a.ref.version, a.ref.digest): a for a in arrivals}
        if not self._without_known(found):
            return 0
        with self._writing() as connection:
            # Asked again under the lock: another process may have registered them meanwhile.
            new = self._without_known(found)
            superseded = self._superseded_by(connection, new)
            self._insert_arrivals(connection, new, superseded)
            self._supersede(connection, superseded)
        return len(new)

    def _without_known(self, found: Mapping[tuple[int, int, str], SpanArrival]) -> list[SpanArrival]:
        columns = tables.spans.c
        statement = select(columns.span, columns.version, columns.digest)
        is_near = (columns.pipeline == self.pipeline, _is_one_of({span for span, _, _ in found}))
        with self._database.reading() as connection:
            known = {(span, version, digest) for span, version, digest in connection.execute(statement.where(*is_near))}
        return [arrival for key, arrival in found.items() if key not in known]

    def _superseded_by(self, connection: Connection, new: Collection[SpanArrival]) -> dict[_Version, SpanRef]:
        """Return the versions, known and new, that a newer one of the same span makes void, and which one."""
        runs = tables.runs.c
        is_open_run = (runs.pipeline == self.pipeline, runs.outcome.is_(None))
        open_runs = set(connection.execute(select(runs.run_id).where(*is_open_run)).scalars())
        superseded = {}
        for versions in self._versions(connection, new).values():
            newest = max(versions, key=lambda version: version.age)
            for version in versions:
                is_open = version.state in _OPEN_STATES or (version.state == "trained" and version.run_id in open_runs)
                if version is not newest and is_open:
                    superseded[version] = newest.ref
        return superseded

    def _versions(self, connection: Connection, new: Collection[SpanArrival]) -> dict[int, list[_Version]]:
        """Return all versions, known and new, of every span that has a new one."""
        columns = tables.spans.c
        versions: dict[int, list[_Version]] = {arrival.ref.span: [] for arrival in new}
        names = (columns.span, columns.version, columns.digest, columns.id, columns.state, columns.run_id)
        is_near = (columns.pipeline == self.pipeline, _is_one_of(versions))
        for span, version, digest, row_id, state, run_id in connection.execute(select(*names).where(*is_near)):
            if span in versions:
                ref = SpanRef(span=span, version=version, digest=digest)
                versions[span].append(_Version(ref, row_id, state, run_id))
        for arrival in new:
            versions[arrival.ref.span].append(_Version(arrival.ref, None, "arrived"))
        return versions

    def _insert_arrivals(
        self, connection: Connection, new: Collection[SpanArrival], superseded: Mapping[_Version, SpanRef]
    ) -> None:
        now = self._clock.now()
        late = {version.ref: newest for version, newest in superseded.items() if version.row_id is None}
        rows, steps = [], []
        for arrival in new:
            newest = late.get(arrival.ref)
            state = "arrived" if newest is None else "superseded"
            reason = None if newest is None else f"version {newest.version} was there first"
            more = arrival.model_dump(exclude={"ref"}) | {"reason": reason, "arrived_at": now, "updated_at": now}
            rows.append(arrival.ref.model_dump() | more | {"state": state})
            steps.append(step_of(arrival.ref, None, state, reason=reason))
        self._insert(connection, tables.spans, rows)
        self._record_steps(connection, steps)

    def _supersede(self, connection: Connection, superseded: Mapping[_Version, SpanRef]) -> None:
        known = [(version, newest) for version, newest in superseded.items() if version.row_id is not None]
        if not known:
            return
        changes, steps = [], []
        for version, newest in known:
            reason = f"version {newest.version} has arrived"
            changes.append({"row": version.row_id, "why": reason})
            steps.append(step_of(version.ref, version.state, "superseded", run_id=version.run_id, reason=reason))
        statement = update(tables.spans).where(tables.spans.c.id == bindparam("row"))
        values = {"state": "superseded", "reason": bindparam("why"), "updated_at": self._clock.now()}
        connection.execute(statement.values(values), changes)
        self._record_steps(connection, steps)


def _is_one_of(spans: Collection[int]) -> ColumnElement[bool]:
    column = tables.spans.c.span
    if len(spans) <= _MAX_LISTED_SPANS:
        return column.in_(spans)
    return column.between(min(spans), max(spans))
