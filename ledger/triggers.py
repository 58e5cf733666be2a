"""`Triggers`: what people asked the daemon for, and when each policy last fired. What is due is computed elsewhere."""

from datetime import datetime
from typing import Any

from sqlalchemy import insert, select

from ledger import tables
from ledger.rows import PipelineRows
from schemas.ledger_records import TriggerRequest


class Triggers(PipelineRows):
    """The trigger part of the ledger."""

    def request_run(self, span: int | None = None, initialisation: str | None = None) -> TriggerRequest:
        """Ask the daemon for a run; it is taken up in the order of asking.

        Args:
            span: The span to run; None: the next one that is due.
            initialisation: How to start, in the config's words; None: as the config says.
        """
        row: dict[str, Any] = {"span": span, "initialisation": initialisation, "requested_at": self._clock.now()}
        with self._writing() as connection:
            added = connection.execute(insert(tables.trigger_requests).values(pipeline=self.pipeline, **row))
            number = added.inserted_primary_key
        return TriggerRequest.model_validate({"id": number[0] if number else None, **row})

    def waiting_requests(self) -> list[TriggerRequest]:
        """Return what nobody has taken up yet, in the order of asking."""
        # Their numbers are part of the record, so this does not read as the other tables are read.
        table = tables.trigger_requests
        columns = [column for column in table.c if column is not table.c.pipeline]
        is_waiting = (table.c.pipeline == self.pipeline, table.c.taken_at.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(select(*columns).where(*is_waiting).order_by(table.c.id)).mappings().all()
        return [TriggerRequest.model_validate(row) for row in rows]

    def take_request(self, request_id: int) -> bool:
        """Take a request up; False if it was taken before, or is not there."""
        columns = tables.trigger_requests.c
        is_waiting = (columns.id == request_id, columns.taken_at.is_(None))
        return self._update(tables.trigger_requests, *is_waiting, taken_at=self._clock.now()) == 1

    def fired(self) -> dict[str, datetime]:
        """Return when each policy last fired, by its name; one that never did is not there."""
        return {row["policy"]: row["at"] for row in self._rows(tables.fired_triggers)}

    def set_fired(self, policy: str, at: datetime) -> None:
        """Record that a policy fired."""
        with self._writing() as connection:
            is_it = tables.fired_triggers.c.policy == policy
            if self._update(tables.fired_triggers, is_it, at=at) == 0:
                self._insert(connection, tables.fired_triggers, [{"policy": policy, "at": at}])
