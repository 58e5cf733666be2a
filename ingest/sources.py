"""What a source of records is, and which one a config names. Finished spans are adopted, see `adoption.py`."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ingest.csv_source import CsvSource
from ingest.flights_source import NycFlightsSource
from ingest.parquet_source import ParquetSource
from schemas.ingestion import CsvOptions, NycFlightsOptions, ParquetOptions


class Source(Protocol):
    """Records with an event time and a key, in any order and in batches of any size.

    Neither order nor batch size may reach the spans: the same records give the same bytes.
    """

    @property
    def time_column(self) -> str:
        """Column with the event time."""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns that together identify a record."""

    @property
    def complete_before(self) -> date | None:
        """Local day before which the source surely has everything, or None where it cannot know."""

    @property
    def missing_label_reason(self) -> str:
        """Why a record has no label, in the words that manifests count it under."""

    def column_names(self) -> tuple[str, ...]:
        """Return all columns that can be asked for."""

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns of all records."""

    def describe(self) -> dict[str, str]:
        """Return what identifies the source's content (kind, files, digests), without secrets."""


def open_source(options: NycFlightsOptions | CsvOptions | ParquetOptions, base: Path) -> Source:
    """Return the source that the options name; relative paths start at `base`.

    Raises:
        DataError: the source's files are not there.
    """
    match options:
        case NycFlightsOptions():
            return NycFlightsSource()
        case CsvOptions():
            return CsvSource(options, base)
        case ParquetOptions():
            return ParquetSource(options, base)
