"""`Runs`: every run with its plan, how often it was tried, what it decided, and how it ended."""

import math
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from core.errors import LedgerError
from ledger import tables
from ledger.rows import PipelineRows
from schemas.ledger_records import RunOutcome, RunRecord, RunStart
from schemas.spans import SpanRef


class Runs(PipelineRows):
    """The run part of the ledger."""

    def start_run(self, run: RunStart) -> RunRecord:
        """Record that a run begins; its first attempt is counted by `start_attempt`.

        Raises:
            LedgerError: a run of that name exists.
        """
        record = RunRecord(**run.model_dump(), started_at=self._clock.now())
        with self._writing() as connection:
            if self._run_records(tables.runs.c.run_id == run.run_id):
                raise LedgerError(
                    f"Run {run.run_id!r} was started before. Expected a run_id of its own; received "
                    f"run_id={run.run_id!r}. Plan the run anew."
                )
            self._insert(connection, tables.runs, [record.model_dump()])
        return record

    def start_attempt(self, run_id: str) -> int:
        """Count one more attempt at an open run, and return how many there were at the node where it stands."""
        with self._writing():
            self._update_run(run_id, attempts=tables.runs.c.attempts + 1)
            return self.run(run_id).attempts

    def give_back_attempt(self, run_id: str) -> None:
        """Take an attempt back that something outside broke; it says nothing about the span."""
        attempts = tables.runs.c.attempts
        self._update(tables.runs, tables.runs.c.run_id == run_id, attempts > 0, attempts=attempts - 1)

    def node_finished(self, run_id: str) -> None:
        """Record progress: this attempt is the first at what comes next."""
        self._update_run(run_id, attempts=1)

    def finish_run(
        self, run_id: str, outcome: RunOutcome, *, error: str | None = None, decision_path: str | None = None
    ) -> None:
        """Record how a run ended.

        Raises:
            LedgerError: no such run was started.
        """
        ended = {"outcome": outcome, "error": error, "decision_path": decision_path, "finished_at": self._clock.now()}
        self._update_run(run_id, **ended)

    def keep_decision(self, run_id: str, document: str) -> None:
        """Keep what a run decided, in place of what was kept of it before.

        Args:
            run_id: The run.
            document: Its decision record as JSON.

        Raises:
            LedgerError: no such run was started.
        """
        decisions = tables.decisions
        with self._writing() as connection:
            self.run(run_id)
            if self._update(decisions, decisions.c.run_id == run_id, document=document) == 0:
                self._insert(connection, decisions, [{"run_id": run_id, "document": document}])

    def decision(self, run_id: str) -> str | None:
        """Return the decision record that was kept of a run, or None."""
        rows = self._rows(tables.decisions, tables.decisions.c.run_id == run_id)
        return rows[0]["document"] if rows else None

    def reopen_run(self, run_id: str) -> RunRecord:
        """Open a failed run again, to resume it from its last finished node.

        Raises:
            LedgerError: it has not failed.
        """
        opened = {"outcome": None, "error": None, "finished_at": None}
        with self._writing():
            run = self.run(run_id)
            if run.outcome is not None:
                is_failed = tables.runs.c.outcome == "failed"
                if self._update(tables.runs, tables.runs.c.run_id == run_id, is_failed, **opened) == 0:
                    raise LedgerError(
                        f"Run {run_id!r} cannot be resumed. Expected outcome='failed'; received "
                        f"outcome={run.outcome!r}. Plan the run anew."
                    )
            return self.run(run_id)

    def run(self, run_id: str) -> RunRecord:
        """Return a run.

        Raises:
            LedgerError: no such run was started.
        """
        records = self._run_records(tables.runs.c.run_id == run_id)
        if not records:
            raise _unknown(run_id)
        return records[0]

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Return all runs, or the `limit` that started last, in the order they started."""
        return self._run_records(order_by=[tables.runs.c.id.desc()], limit=limit)[::-1]

    def open_run(self) -> RunRecord | None:
        """Return the oldest run without an outcome, or None: it is running, or its worker died."""
        is_open = tables.runs.c.outcome.is_(None)
        return next(iter(self._run_records(is_open, order_by=[tables.runs.c.id], limit=1)), None)

    def latest_run(self, ref: SpanRef) -> RunRecord | None:
        """Return the run of this span version that started last, or None."""
        columns = tables.runs.c
        is_of_span = (columns.span == ref.span, columns.version == ref.version)
        return next(iter(self._run_records(*is_of_span, order_by=[columns.id.desc()], limit=1)), None)

    def run_seconds_since(self, moment: datetime) -> float:
        """Return for how many seconds runs ran after `moment`, open ones until now; pauses between attempts count."""
        columns, now = tables.runs.c, self._clock.now()
        has_run = (columns.pipeline == self.pipeline, or_(columns.finished_at > moment, columns.finished_at.is_(None)))
        with self._database.reading() as connection:
            times = connection.execute(select(columns.started_at, columns.finished_at).where(*has_run)).all()
        spent = (((end or now) - max(start, moment)).total_seconds() for start, end in times)
        # A wall clock that was set back must not give budget back.
        return math.fsum(max(0.0, seconds) for seconds in spent)

    def last_run_finished_at(self) -> datetime | None:
        """Return when a run last ended, or None."""
        columns = tables.runs.c
        with self._database.reading() as connection:
            statement = select(func.max(columns.finished_at)).where(columns.pipeline == self.pipeline)
            last: datetime | None = connection.execute(statement).scalar()
        return last

    def _run_records(self, *where: ColumnElement[bool], **how: Any) -> list[RunRecord]:
        return [RunRecord.model_validate(row) for row in self._rows(tables.runs, *where, **how)]

    def _update_run(self, run_id: str, **values: Any) -> None:
        if self._update(tables.runs, tables.runs.c.run_id == run_id, **values) == 0:
            raise _unknown(run_id)


def _unknown(run_id: str) -> LedgerError:
    return LedgerError(
        f"Run {run_id!r} was never started. Expected a run of the ledger; received run_id={run_id!r}. "
        "Record its start first."
    )
