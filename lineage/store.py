"""Open an ML Metadata store. TFX writes it, `lineage.garbage` marks what was removed, and all else only reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from core.errors import LineageError


@contextmanager
def opened_store(path: Path, *, writable: bool = False) -> Iterator[MetadataStore]:
    """Yield the store in an SQLite file, read-only unless asked otherwise: a query never makes or migrates one.

    Args:
        path: The file.
        writable: Whether the block may write.

    Raises:
        LineageError: the file is missing, is no metadata store, or stops answering inside the block.
    """
    if not path.is_file():
        raise LineageError(
            f"There is no ML Metadata store at {str(path)!r}. Expected the file that the first run makes. "
            "Run the pipeline first, or correct `root` in the config."
        )
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(path)
    modes = metadata_store_pb2.SqliteMetadataSourceConfig
    connection.sqlite.connection_mode = modes.READWRITE if writable else modes.READONLY
    try:
        yield MetadataStore(connection)
    # The constructor raises RuntimeError, the calls raise StatusError.
    except (RuntimeError, errors.StatusError) as error:
        raise LineageError(
            f"{str(path)!r} does not answer as an ML Metadata store: {str(error)[:200]}. Expected the SQLite file "
            "that TFX writes. Restore it from a backup, or correct `root` in the config."
        ) from error
