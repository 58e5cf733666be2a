"""`Database`: connections, transactions and the sentences for what a database refuses. Nothing here knows a table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, create_engine, insert, inspect, literal, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.schema import CreateColumn

from core.errors import ConfigError, LedgerError

# A writer holds SQLite's lock for milliseconds, so half a minute of waiting means that something is stuck.
BUSY_TIMEOUT_SECONDS = 30


class Database:
    """A database at an SQLAlchemy URL; the folder of an SQLite file is made if it is missing.

    Raises:
        ConfigError: `url` is no database URL.
        LedgerError: the folder cannot be made.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        file = _sqlite_file(parsed)
        if file is not None:
            _make_folder(file.parent)
        self._engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS} if file else {})

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for statements that change nothing."""
        with self._reported(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose statements take effect together at the end, or not at all if the block raises."""
        with self._reported(), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            place = self._engine.url.render_as_string(hide_password=True)
            raise LedgerError(
                f"The ledger at {place} cannot be used: {error.orig}. Expected a Perennial ledger that this user may "
                "read and write. Check the file, its folder's permissions and free space, or restore it from a backup."
            ) from error


def database_exists(url: str) -> bool:
    """Tell whether there is anything to read at `url`; a database server counts as something."""
    file = _sqlite_file(_parse(url))
    return file is None or file.exists()


def insert_if_absent(
    connection: Connection, table: Table, row: Mapping[str, Any], is_same: ColumnElement[bool]
) -> bool:
    """Insert `row` unless the table has one that `is_same`, in one statement of plain SQL; tell whether it went in."""
    values = select(*(literal(value, table.c[name].type) for name, value in row.items()))
    absent = values.where(~select(table).where(is_same).exists())
    return connection.execute(insert(table).from_select(list(row), absent)).rowcount == 1


def add_missing_columns(connection: Connection, table: Table) -> None:
    """Add the columns that a table made by an earlier version lacks; its rows keep what they have.

    A table without our keys is somebody else's, and is left to fail when it is used.
    """
    present = {column["name"] for column in inspect(connection).get_columns(table.name)}
    if not present.issuperset(column.name for column in table.primary_key):
        return
    for column in table.columns:
        if column.name not in present:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"The ledger URL {url!r} cannot be used: {error}. Expected e.g. 'sqlite:///var/flights/ledger.sqlite'. "
            "Correct `ledger` in the config."
        ) from error
    return parsed


def _sqlite_file(url: URL) -> Path | None:
    in_memory = url.database in (None, "", ":memory:")
    return None if url.get_backend_name() != "sqlite" or in_memory else Path(str(url.database))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The ledger's folder {str(folder)!r} cannot be made: {error.strerror}. Expected a folder that this user "
            "may write. Change its permissions, or set another root in the config."
        ) from error
