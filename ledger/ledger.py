"""`Ledger`: every read and write of a pipeline's operational state. What a state leads to is decided by the plan."""

from types import TracebackType
from typing import Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from core.clock import Clock, SystemClock
from ledger import tables
from ledger.arrivals import Arrivals
from ledger.database import Database, database_exists
from ledger.leases import Leases
from ledger.models import Models
from ledger.planning import Planning
from ledger.runs import Runs
from ledger.triggers import Triggers

# The newest of `ledger.migrations.versions`, said here so that a ledger of today is opened without Alembic.
LEDGER_VERSION = "0003"
_LOOK = text(
    "SELECT version_num, (SELECT COUNT(*) FROM leases WHERE pipeline = :pipeline) AS is_known FROM ledger_version"
)


class Ledger(Leases, Arrivals, Planning, Runs, Models, Triggers):
    """The transactional record of one pipeline: its spans, runs, pushed models and champion.

    Any number of processes may hold one open at the same time. Every public method is one transaction; inside `fenced`
    they are all parts of one. After `acquire` or `adopt`, all writes fail once another worker has taken the lease.
    """

    @classmethod
    def open(cls, url: str, pipeline: str, *, clock: Clock | None = None) -> "Ledger":
        """Open the ledger at an SQLAlchemy URL; make its file and tables where they are missing, upgrade old ones.

        Args:
            url: Where the ledger is.
            pipeline: Name of the pipeline whose rows it sees.
            clock: Source of every time that is written, and of every wait; None: the machine's.

        Raises:
            ConfigError: `url` is no database URL.
            LedgerError: the file is no database, the folder or server refuses, or the ledger is newer than this code.
            UnavailableError: the database does not answer.
        """
        ledger = cls(Database(url), pipeline, clock or SystemClock())
        try:
            ledger._make_ready()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @staticmethod
    def exists(url: str) -> bool:
        """Tell whether there is a ledger to open, for commands that only read and should not make one."""
        return database_exists(url)

    def close(self) -> None:
        """Give all connections back; a lease stays until it is released or its holder has been silent for its ttl."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the ledger itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _make_ready(self) -> None:
        with self._database.reading() as connection:
            if self._is_ready(connection):
                return
        # Imports Alembic, which takes longer than most commands.
        from ledger.migrations import upgrade

        with self._database.alone() as connection:
            upgrade(connection)
        with self._database.alone() as connection:
            if not self._is_ready(connection):
                self._add_pipeline(connection)

    def _is_ready(self, connection: Connection) -> bool:
        try:
            row = connection.execute(_LOOK, {"pipeline": self.pipeline}).one_or_none()
        except DBAPIError:
            return False
        return row is not None and (row.version_num, row.is_known) == (LEDGER_VERSION, 1)

    def _add_pipeline(self, connection: Connection) -> None:
        known = connection.execute(tables.pipelines.select().where(tables.pipelines.c.pipeline == self.pipeline)).all()
        # A pipeline of an older ledger has this row, and no lease yet.
        if not known:
            self._insert(connection, tables.pipelines, [{"last_version": 0}])
        self._insert(connection, tables.leases, [{"token": 0, "beats": 0, "ttl_seconds": 0.0}])
