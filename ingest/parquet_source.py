"""Records from Parquet files, with the types that the files have."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from core.errors import DataError
from ingest.source_files import common_columns, describe_files, find_files
from schemas.ingestion import ParquetOptions


class ParquetSource:
    """Reads one or more Parquet files.

    Args:
        options: Path, time and key columns.
        base: Folder that a relative path starts at.
    """

    complete_before: date | None = None
    missing_label_reason = "no label"

    def __init__(self, options: ParquetOptions, base: Path) -> None:
        self.time_column = options.time_column
        self.key_columns = options.key_columns
        self._path = options.path
        self._files = find_files(options.path, base)

    def column_names(self) -> tuple[str, ...]:
        """Return the columns, the same in all files."""
        return common_columns({file: tuple(_open(file).schema_arrow.names) for file in self._files})

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns of all files, file by file."""
        for file in self._files:
            try:
                yield from _open(file).iter_batches(columns=list(columns))
            except (pa.ArrowInvalid, OSError) as error:
                raise _unreadable(file, error) from error

    def describe(self) -> dict[str, str]:
        """Return the path and the digest of all files."""
        return describe_files("parquet", self._path, self._files)


def _open(file: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"Parquet file {str(file)!r} cannot be read. Expected a complete Parquet file; received {str(error)!r}. "
        "Write the file again."
    )
