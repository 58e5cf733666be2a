"""Records from CSV files. Cells stay text here; `columns.py` gives them the reviewed schema's types."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from core.errors import DataError
from ingest.source_files import common_columns, describe_files, find_files
from schemas.ingestion import CsvOptions

# Arrow quotes the line that it cannot parse, however long.
MAX_RENDERED_CHARACTERS = 300


class CsvSource:
    """Reads one or more CSV files with a header, as text with missing cells.

    Args:
        options: Path, time and key columns, and which cells mean "no value".
        base: Folder that a relative path starts at.
    """

    complete_before: date | None = None
    missing_label_reason = "no label"

    def __init__(self, options: CsvOptions, base: Path) -> None:
        self.time_column = options.time_column
        self.key_columns = options.key_columns
        self._options = options
        self._files = find_files(options.path, base)

    def column_names(self) -> tuple[str, ...]:
        """Return the header's columns, the same in all files."""
        return common_columns({file: self._header(file) for file in self._files})

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns of all files as text, file by file."""
        convert = csv.ConvertOptions(
            column_types={name: pa.string() for name in columns},
            include_columns=list(columns),
            null_values=list(self._options.missing_values),
            strings_can_be_null=True,
        )
        for file in self._files:
            try:
                yield from csv.open_csv(file, convert_options=convert)
            except pa.ArrowInvalid as error:
                raise _unreadable(file, error) from error

    def describe(self) -> dict[str, str]:
        """Return the path and the digest of all files."""
        return describe_files("csv", self._options.path, self._files)

    def _header(self, file: Path) -> tuple[str, ...]:
        try:
            return tuple(csv.open_csv(file).schema.names)
        except pa.ArrowInvalid as error:
            raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"CSV file {str(file)!r} cannot be read. Expected UTF-8 text, a header line and the same number of cells in "
        f"every line; received {str(error)[:MAX_RENDERED_CHARACTERS]!r}. Repair the file."
    )
