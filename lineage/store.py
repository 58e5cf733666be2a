"""Open an ML Metadata store by its URL. TFX and the tasks of a cluster write it; all else reads, or marks garbage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from sqlalchemy import URL, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from core.errors import ConfigError, LineageError

MYSQL_PORT = 3306
# How SQLAlchemy is to ask what ML Metadata's own driver must not: whether there are tables, without making them.
_ASKED_BY = "mysql+pymysql"
_TABLE = "MLMDEnv"  # where ML Metadata keeps the version of its schema


def connection_config(url: str, *, writable: bool = True) -> metadata_store_pb2.ConnectionConfig:
    """Return how ML Metadata reaches a store; whoever opens it to write makes its tables, here its folder is made.

    Args:
        url: `sqlite:///PATH` or `mysql://USER:PASSWORD@HOST:PORT/DATABASE`; SQLAlchemy's `+driver` makes no difference.
        writable: Whether who opens it may write; only SQLite keeps others from it.

    Raises:
        ConfigError: the URL is no URL, or of another kind of database.
    """
    parsed = _parse(url)
    config = metadata_store_pb2.ConnectionConfig()
    if parsed.get_backend_name() == "sqlite":
        modes = metadata_store_pb2.SqliteMetadataSourceConfig
        if writable:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        config.sqlite.filename_uri = str(parsed.database)
        config.sqlite.connection_mode = modes.READWRITE_OPENCREATE if writable else modes.READONLY
        return config
    config.mysql.database = str(parsed.database)
    config.mysql.user = parsed.username or ""
    config.mysql.password = parsed.password or ""
    # An account that may write the tables need not be one that may make databases.
    config.mysql.skip_db_creation = True
    if socket := parsed.query.get("unix_socket"):
        config.mysql.socket = str(socket)
    else:
        config.mysql.host = parsed.host or "localhost"
        config.mysql.port = parsed.port or MYSQL_PORT
    return config


def store_exists(url: str) -> bool:
    """Tell whether a run has made a store at this URL; asking makes none.

    Raises:
        ConfigError: as `connection_config`.
        LineageError: the database cannot be asked.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return Path(str(parsed.database)).is_file()
    engine = create_engine(parsed.set(drivername=_ASKED_BY))
    try:
        return bool(inspect(engine).has_table(_TABLE))
    except SQLAlchemyError as error:
        raise _no_answer(parsed, error) from error
    finally:
        engine.dispose()


@contextmanager
def opened_store(url: str, *, writable: bool = False) -> Iterator[MetadataStore]:
    """Yield a store that exists; a query never makes or migrates one.

    Args:
        url: Its URL, see `connection_config`.
        writable: Whether the block may write.

    Raises:
        ConfigError: the URL is no URL, or of another kind of database.
        LineageError: there is no store, it is none, or it stops answering inside the block.
    """
    parsed = _parse(url)
    if not store_exists(url):
        raise LineageError(
            f"There is no ML Metadata store at {_name(parsed)!r}. Expected what the first run makes. Run the pipeline "
            "first, or correct `root` or `metadata` in the config."
        )
    config = connection_config(url, writable=writable)
    if writable and config.HasField("sqlite"):
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    try:
        yield MetadataStore(config)
    # The constructor raises RuntimeError, the calls raise StatusError.
    except (RuntimeError, errors.StatusError) as error:
        raise _no_answer(parsed, error) from error


def shown_url(url: str) -> str:
    """Return a store's URL as messages may show it, without its password; of SQLite, the file."""
    return _name(_parse(url))


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # The text may hold a password, so it is not repeated.
        raise ConfigError(
            "The URL of ML Metadata is no URL. Expected sqlite:///PATH or mysql://USER:PASSWORD@HOST:PORT/DATABASE. "
            "Correct `metadata` in the config, or the environment variable that it names."
        ) from error
    if parsed.get_backend_name() not in ("sqlite", "mysql", "mariadb") or not parsed.database:
        raise ConfigError(
            f"ML Metadata cannot be kept at {_name(parsed)!r}. Expected sqlite:///PATH or "
            "mysql://USER:PASSWORD@HOST:PORT/DATABASE. Use MySQL; the ledger may stay where it is."
        )
    return parsed


def _name(parsed: URL) -> str:
    is_file = parsed.get_backend_name() == "sqlite"
    return str(parsed.database) if is_file else parsed.render_as_string(hide_password=True)


def _no_answer(parsed: URL, error: Exception) -> LineageError:
    text = str(error).replace(parsed.password, "***") if parsed.password else str(error)
    return LineageError(
        f"{_name(parsed)!r} does not answer as an ML Metadata store: {text[:200]}. Expected the database that runs "
        "write. Restore it from a backup, or correct `root` or `metadata` in the config."
    )
