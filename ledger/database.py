"""`Database`: connections, transactions and the sentences for what a database refuses. Nothing here knows a table."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from core.errors import ConfigError, LedgerError, UnavailableError
from ledger.column_types import MYSQL
from ledger.failures import may_pass

# A writer holds a lock for milliseconds, so half a minute of waiting means that something is stuck.
LOCK_TIMEOUT_SECONDS = 30
_CONNECT_TIMEOUT_SECONDS = 10
_SQLITE = "sqlite"
_POSTGRESQL = "postgresql"
# Of PostgreSQL's lock numbers, one that no other program has a reason to take.
_UPGRADE_LOCK = 7_403_116_201
_UPGRADE_LOCK_NAME = "perennial-ledger"


class Database:
    """A database at an SQLAlchemy URL; the folder of an SQLite file is made if it is missing.

    A thread that is inside `writing` and asks for `writing` or `reading` again stays in its transaction.

    Raises:
        ConfigError: `url` is no database URL, or of a database that the ledger does not know.
        LedgerError: the folder cannot be made.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        file = _sqlite_file(parsed)
        if file is not None:
            _make_folder(file.parent)
        self._engine = _make_engine(parsed)
        self._writer = self._engine.execution_options(writes=True)
        self._entered = threading.local()

    @property
    def place(self) -> str:
        """The URL, without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for statements that change nothing."""
        if (entered := self._connection()) is not None:
            yield entered
            return
        with self._reported(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose statements take effect together at the end, or not at all if the block raises."""
        if (entered := self._connection()) is not None:
            with entered.begin_nested():
                yield entered
            return
        with self._reported(), self._writer.begin() as connection:
            self._entered.connection = connection
            try:
                yield connection
            finally:
                self._entered.connection = None

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Yield as `writing` does, while no other process is in here: for changes to the tables themselves."""
        # SQLite has one writer at a time anyway.
        with self._reported(), self._upgrade_lock(), self.writing() as connection:
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _connection(self) -> Connection | None:
        return getattr(self._entered, "connection", None)

    @contextmanager
    def _upgrade_lock(self) -> Iterator[None]:
        # A connection of its own, since MySQL commits before and after each change of a table.
        if self._engine.dialect.name == _SQLITE:
            yield
            return
        is_mysql = self._engine.dialect.name in MYSQL
        lock = "GET_LOCK(:name, :timeout)" if is_mysql else "pg_advisory_lock(:number)"
        unlock = "RELEASE_LOCK(:name)" if is_mysql else "pg_advisory_unlock(:number)"
        values: dict[str, Any] = {"number": _UPGRADE_LOCK}
        if is_mysql:
            # MySQL's lock is the server's, so it is named after the database.
            name = f"{_UPGRADE_LOCK_NAME}:{self._engine.url.database}"[:64]
            values = {"name": name, "timeout": LOCK_TIMEOUT_SECONDS}
        with self._engine.connect() as connection:
            if connection.execute(text(f"SELECT {lock}"), values).scalar() == 0:
                raise UnavailableError(f"The ledger at {self.place} is being upgraded by another process. Try again.")
            try:
                yield
            finally:
                values.pop("timeout", None)
                connection.execute(text(f"SELECT {unlock}"), values)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if may_pass(error):
                raise UnavailableError(
                    f"The ledger at {self.place} is not available: {error.orig}. Expected a database that answers "
                    f"within {LOCK_TIMEOUT_SECONDS} s and has room. Look for a process that keeps it locked, free "
                    "space, or start the server; then repeat the command."
                ) from error
            raise LedgerError(
                f"The ledger at {self.place} cannot be used: {error.orig}. Expected a Perennial ledger that this user "
                "may read and write. Check the file, its folder's permissions and free space, or restore it from a "
                "backup."
            ) from error


def database_exists(url: str) -> bool:
    """Tell whether there is anything to read at `url`; a database server counts as something."""
    file = _sqlite_file(_parse(url))
    return file is None or file.exists()


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == _SQLITE:
        engine = create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        # A statement sees what was committed before it, so once the lease row is locked nothing is read stale.
        engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS},
        )
    except ImportError as error:
        raise ConfigError(
            f"The ledger URL {url.render_as_string()!r} cannot be used: {error}. Expected "
            "'postgresql+psycopg://USER@HOST/DATABASE' or 'mysql+pymysql://USER@HOST/DATABASE'. "
            "Correct `ledger` in the config."
        ) from error
    event.listen(engine, "connect", _bound_lock_waits)
    return engine


def _leave_transactions_to_us(connection: Any, _: Any) -> None:
    # Python's sqlite3 would begin one at the first write, after a read that may be out of date by then.
    connection.isolation_level = None


def _begin_sqlite(connection: Connection) -> None:
    # Only a writer that locks before it reads can be sure to get the lock without a deadlock.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bound_lock_waits(connection: Any, _: Any) -> None:
    is_postgresql = type(connection).__module__.startswith("psycopg")
    setting = f"lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
    cursor = connection.cursor()
    cursor.execute(f"SET {setting}" if is_postgresql else f"SET innodb_lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}")
    cursor.close()
    connection.commit()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
        if parsed.get_backend_name() not in (_SQLITE, _POSTGRESQL, *MYSQL):
            raise ArgumentError("the ledger knows SQLite, PostgreSQL and MySQL")
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"The ledger URL {url!r} cannot be used: {error}. Expected e.g. 'sqlite:///var/flights/ledger.sqlite'. "
            "Correct `ledger` in the config."
        ) from error
    return parsed


def _sqlite_file(url: URL) -> Path | None:
    # In memory, or a URI of SQLite's own, whose folder is nothing for us to make.
    is_path = url.database not in (None, "", ":memory:") and not str(url.database).startswith("file:")
    return Path(str(url.database)) if url.get_backend_name() == _SQLITE and is_path else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The ledger's folder {str(folder)!r} cannot be made: {error.strerror}. Expected a folder that this user "
            "may write. Change its permissions, or set another root in the config."
        ) from error
