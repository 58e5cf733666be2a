"""`Ledger`: every read and write of a pipeline's operational state. What a state leads to is decided by the plan."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ColumnElement, RowMapping, String, Table, and_, literal, select, tuple_, update
from sqlalchemy.schema import CreateTable

from core.errors import LedgerError
from ledger import tables
from ledger.database import Database, add_missing_columns, database_exists, insert_if_absent
from schemas.ledger_records import ChampionRecord, ModelRecord, RunOutcome, RunRecord, RunStart, SpanOutcome, SpanRecord
from schemas.spans import SpanRef


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The transactional record of one pipeline: its spans, runs, pushed models and champion.

    Any number of processes may hold one open at the same time. Every public method is one transaction, and every write
    decides by a condition inside its own SQL statement, so nothing is ever decided from a stale read.

    Args:
        database: Where the tables are; `Ledger.open` makes it from a URL.
        pipeline: Name of the pipeline whose rows this ledger sees.
        clock: Source of `updated_at`, `started_at`, `finished_at` and `moved_at`.
    """

    def __init__(self, database: Database, pipeline: str, clock: Callable[[], datetime] = utc_now) -> None:
        self.pipeline = pipeline
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, url: str, pipeline: str, *, clock: Callable[[], datetime] = utc_now) -> "Ledger":
        """Open the ledger at an SQLAlchemy URL, and make its file and tables where they are missing.

        Raises:
            ConfigError: `url` is no database URL.
            LedgerError: the file is no database, or the folder or server refuses.
        """
        ledger = cls(Database(url), pipeline, clock)
        try:
            ledger._make_tables()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _make_tables(self) -> None:
        row = {"pipeline": self.pipeline, "last_version": 0}
        with self._database.writing() as connection:
            # Not create_all: between its look and its creation another process may have made the table.
            for table in tables.metadata.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                add_missing_columns(connection, table)
            insert_if_absent(connection, tables.pipelines, row, tables.pipelines.c.pipeline == self.pipeline)

    @staticmethod
    def exists(url: str) -> bool:
        """Tell whether there is a ledger to open, for commands that only read and should not make one."""
        return database_exists(url)

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the ledger itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def register_spans(self, num_examples: Mapping[SpanRef, int]) -> int:
        """Record spans as arrived, with their example counts; those already known stay as they are.

        Returns:
            How many were not known.
        """
        fixed = {"pipeline": self.pipeline, "state": "arrived", "updated_at": self._clock()}
        with self._database.writing() as connection:
            return sum(
                insert_if_absent(
                    connection,
                    tables.spans,
                    fixed | ref.model_dump() | {"num_examples": count},
                    and_(tables.spans.c.pipeline == self.pipeline, _is_span(ref)),
                )
                for ref, count in num_examples.items()
            )

    def spans(self) -> list[SpanRecord]:
        """Return all versions of all spans, by span and version."""
        columns = tables.spans.c
        rows = self._rows(tables.spans, order_by=[columns.span, columns.version, columns.id])
        return [SpanRecord.model_validate(row) for row in rows]

    def span(self, ref: SpanRef) -> SpanRecord:
        """Return what is known about one version of one span.

        Raises:
            LedgerError: it was never registered.
        """
        rows = self._rows(tables.spans, _is_span(ref))
        if not rows:
            raise LedgerError(
                f"Span {ref.span} version {ref.version} with digest {ref.digest[:12]!r} is not in the ledger of "
                f"{self.pipeline!r}. Expected a registered span. Ingest it, and register it from its manifest."
            )
        return SpanRecord.model_validate(rows[0])

    def finish_span(self, ref: SpanRef, outcome: SpanOutcome) -> SpanRecord:
        """Record how a span ended. Saying it again for the same run is allowed, so that a killed run can repeat it.

        Raises:
            LedgerError: the span was never registered, or another run has finished it: a span is consumed once.
        """
        # A literal, since `== None` would become IS NULL, and no run is not the same run.
        is_ours = tables.spans.c.run_id == literal(outcome.run_id, String)
        is_open = tables.spans.c.state == "arrived"
        num_updated = self._update(tables.spans, _is_span(ref), is_open | is_ours, **outcome.model_dump())
        record = self.span(ref)
        if num_updated == 0:
            raise LedgerError(
                f"Span {ref.span} version {ref.version} is already {record.state}. Expected state='arrived'; received "
                f"run_id={outcome.run_id!r} after run_id={record.run_id!r} had finished it. "
                "Leave it, or ingest a corrected version."
            )
        return record

    def finish_history(self, refs: Iterable[SpanRef], *, run_id: str, reason: str) -> int:
        """Record spans as trained because a cold start's window held them; spans finished before stay as they are.

        Returns:
            How many changed.
        """
        is_open = tables.spans.c.state == "arrived"
        return self._update(tables.spans, _is_span(*refs), is_open, state="trained", run_id=run_id, reason=reason)

    def start_run(self, run: RunStart) -> RunRecord:
        """Record that a run begins.

        Raises:
            LedgerError: a run of that name exists.
        """
        record = RunRecord(**run.model_dump(), started_at=self._clock())
        row = record.model_dump() | {"pipeline": self.pipeline}
        is_same = and_(tables.runs.c.pipeline == self.pipeline, tables.runs.c.run_id == run.run_id)
        with self._database.writing() as connection:
            if not insert_if_absent(connection, tables.runs, row, is_same):
                raise LedgerError(
                    f"Run {run.run_id!r} was started before. Expected a run_id of its own; received "
                    f"run_id={run.run_id!r}. Plan the run anew."
                )
        return record

    def finish_run(
        self, run_id: str, outcome: RunOutcome, *, error: str | None = None, decision_path: str | None = None
    ) -> None:
        """Record how a run ended.

        Raises:
            LedgerError: no such run was started.
        """
        values = {"outcome": outcome, "error": error, "decision_path": decision_path, "finished_at": self._clock()}
        if self._update(tables.runs, tables.runs.c.run_id == run_id, **values) == 0:
            raise LedgerError(
                f"Run {run_id!r} was never started. Expected a run of the ledger; received run_id={run_id!r}. "
                "Record its start first."
            )

    def runs(self) -> list[RunRecord]:
        """Return all runs, in the order they started."""
        return [RunRecord.model_validate(row) for row in self._rows(tables.runs, order_by=[tables.runs.c.id])]

    def latest_run(self, ref: SpanRef) -> RunRecord | None:
        """Return the run of this span version that started last, or None."""
        columns = tables.runs.c
        is_of_span = and_(columns.span == ref.span, columns.version == ref.version)
        rows = self._rows(tables.runs, is_of_span, order_by=[columns.id.desc()], limit=1)
        return RunRecord.model_validate(rows[0]) if rows else None

    def reserve_version(self) -> int:
        """Return a version that no other call ever got or will get, greater than all before; gaps are normal."""
        columns = tables.pipelines.c
        ours = columns.pipeline == self.pipeline
        with self._database.writing() as connection:
            # The update comes first: it locks the row, so the read sees this transaction's own increment.
            connection.execute(update(tables.pipelines).where(ours).values(last_version=columns.last_version + 1))
            return int(connection.execute(select(columns.last_version).where(ours)).scalar_one())

    def record_model(self, model: ModelRecord) -> None:
        """Record a pushed model. Saying the same again is allowed, so that a killed run can repeat it.

        Raises:
            LedgerError: the version was never reserved, or is another model.
        """
        last_version = self._rows(tables.pipelines)[0]["last_version"]
        if model.version > last_version:
            raise LedgerError(
                f"Model version {model.version} was never reserved. Expected at most {last_version}; received "
                f"version={model.version}. Take it from reserve_version."
            )
        row = model.model_dump() | {"pipeline": self.pipeline}
        is_same = and_(tables.models.c.pipeline == self.pipeline, tables.models.c.version == model.version)
        with self._database.writing() as connection:
            insert_if_absent(connection, tables.models, row, is_same)
        stored = self.model(model.version)
        if stored != model:
            raise LedgerError(
                f"Model version {model.version} is already recorded, made by run {stored.run_id!r}. Expected a version "
                f"of its own; received run_id={model.run_id!r}. Take it from reserve_version."
            )

    def model(self, version: int) -> ModelRecord:
        """Return a pushed model.

        Raises:
            LedgerError: no such version was recorded.
        """
        rows = self._rows(tables.models, tables.models.c.version == version)
        if not rows:
            known = [model.version for model in self.models()]
            expected = f"a version from {known[0]} to {known[-1]}" if known else "a pushed model, but there is none yet"
            raise LedgerError(
                f"Pipeline {self.pipeline!r} has no model version {version}. Expected {expected}; "
                f"received version={version}. Look at `perennial status`."
            )
        return ModelRecord.model_validate(rows[0])

    def models(self) -> list[ModelRecord]:
        """Return all pushed models, by version."""
        rows = self._rows(tables.models, order_by=[tables.models.c.version])
        return [ModelRecord.model_validate(row) for row in rows]

    def champion(self) -> ChampionRecord | None:
        """Return the model that serves, or None before the first promotion."""
        pointer = self._rows(tables.pipelines)[0]
        if pointer["champion_version"] is None:
            return None
        model = self.model(pointer["champion_version"])
        return ChampionRecord(**model.model_dump(), moved_at=pointer["moved_at"])

    def promote(self, expected: int | None, version: int) -> bool:
        """Make `version` the champion if `expected` still is: compare and swap, in one statement.

        Args:
            expected: The champion that the decision was made against; None for no champion yet.
            version: A recorded model.

        Returns:
            False if another worker moved the champion first; nothing has changed then.

        Raises:
            LedgerError: `version` was never recorded.
        """
        self.model(version)
        is_expected = tables.pipelines.c.champion_version.is_not_distinct_from(expected)
        values = {"champion_version": version, "moved_at": self._clock()}
        return self._update(tables.pipelines, is_expected, **values) == 1

    def _rows(
        self,
        table: Table,
        *where: ColumnElement[bool],
        order_by: Iterable[ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[RowMapping]:
        """Read this pipeline's rows, without the columns that are part of no record."""
        columns = [column for column in table.c if column.name not in tables.INTERNAL_COLUMNS]
        statement = select(*columns).where(table.c.pipeline == self.pipeline, *where).order_by(*order_by).limit(limit)
        with self._database.reading() as connection:
            return list(connection.execute(statement).mappings())

    def _update(self, table: Table, *where: ColumnElement[bool], **values: Any) -> int:
        """Change this pipeline's rows in one statement, and return how many."""
        if "updated_at" in table.c:
            values["updated_at"] = self._clock()
        with self._database.writing() as connection:
            ours = table.c.pipeline == self.pipeline
            return connection.execute(update(table).where(ours, *where).values(values)).rowcount


def _is_span(*refs: SpanRef) -> ColumnElement[bool]:
    columns = tables.spans.c
    key = tuple_(columns.span, columns.version, columns.digest)
    return key.in_([(ref.span, ref.version, ref.digest) for ref in refs])
