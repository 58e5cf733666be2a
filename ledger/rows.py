"""`PipelineRows`: one pipeline's rows of a database, read, and written under its lease. What they mean is elsewhere."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, insert, select, update

from core.clock import Clock
from core.errors import LeaseLostError
from ledger import tables
from ledger.column_types import MYSQL
from ledger.database import Database


class PipelineRows:
    """What every part of the ledger stands on.

    Every write first locks the pipeline's lease row, so the writes of one pipeline happen one after another, and what a
    write has read is true until it commits. Once this instance holds a lease, the row must still have its token.

    Args:
        database: Where the tables are.
        pipeline: Name of the pipeline whose rows these are.
        clock: Source of every time that is written.
    """

    def __init__(self, database: Database, pipeline: str, clock: Clock) -> None:
        self.pipeline = pipeline
        self._database = database
        self._clock = clock
        self._token: int | None = None
        self._is_adopted = False

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield a connection for statements that take effect together, unless another worker has the lease.

        Raises:
            LeaseLostError: this instance acquired or adopted the lease, and another worker has it now.
        """
        with self._database.writing() as connection:
            self._touch_lease(connection)
            yield connection

    def _touch_lease(self, connection: Connection) -> None:
        leases = tables.leases
        ours = leases.c.pipeline == self.pipeline
        if self._token is None:
            # Changes nothing: it is there for its lock.
            connection.execute(update(leases).where(ours).values(token=leases.c.token))
            return
        beat = {"beats": leases.c.beats + 1, "heartbeat_at": self._clock.now()}
        if connection.execute(update(leases).where(ours, leases.c.token == self._token).values(beat)).rowcount == 0:
            row = connection.execute(select(leases).where(ours)).mappings().one()
            raise LeaseLostError(
                f"Pipeline {self.pipeline!r} was taken over by another worker. Expected token={self._token}; received "
                f"token={row['token']}, holder={row['holder']!r}. Nothing was written. Start this worker anew."
            )

    def _rows(
        self,
        table: Table,
        *where: ColumnElement[bool],
        order_by: Iterable[ColumnElement[Any]] = (),
        limit: int | None = None,
        mysql_index: str | None = None,
    ) -> list[RowMapping]:
        """Read this pipeline's rows, without the columns that are part of no record.

        Args:
            table: Whose rows.
            where: Which.
            order_by: In which order.
            limit: How many at most.
            mysql_index: The index that MySQL must use, where it would choose a longer way by itself.
        """
        columns = [column for column in table.c if column.name not in tables.INTERNAL_COLUMNS]
        statement = select(*columns).where(table.c.pipeline == self.pipeline, *where).order_by(*order_by).limit(limit)
        for dialect in MYSQL if mysql_index else ():
            statement = statement.with_hint(table, f"FORCE INDEX ({mysql_index})", dialect)
        with self._database.reading() as connection:
            return list(connection.execute(statement).mappings())

    def _update(self, table: Table, *where: ColumnElement[bool], **values: Any) -> int:
        """Change this pipeline's rows in one statement, and return how many."""
        with self._writing() as connection:
            statement = update(table).where(table.c.pipeline == self.pipeline, *where).values(values)
            return connection.execute(statement).rowcount

    def _insert(self, connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to this pipeline's, many at once."""
        if ours := [{**row, "pipeline": self.pipeline} for row in rows]:
            connection.execute(insert(table), ours)
