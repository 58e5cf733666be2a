"""Which span an event belongs to, and when a span starts and ends. Pure: no source, file or clock."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.ingestion import WindowSize

Days = npt.NDArray[np.datetime64]

_DAYS_PER_WEEK = 7


@dataclass(frozen=True)
class Windows:
    """Back-to-back windows of local days, weeks or months, numbered upwards.

    Local days are 23 to 25 hours long where clocks change; a week is always seven of them. An event before `origin`
    gets a number below `first_span`.

    Args:
        size: Length of a window.
        origin: First local day of the first window; the first of a month where windows are months.
        first_span: Number of the window that starts at `origin`.
        timezone: IANA name of the zone whose midnights bound the windows.

    Example:
        >>> weeks = Windows("week", date(2013, 1, 1), first_span=1, timezone="America/New_York")
        >>> weeks.first_day(2)
        datetime.date(2013, 1, 8)
        >>> weeks.start(2).isoformat()
        '2013-01-08T05:00:00+00:00'
    """

    size: WindowSize
    origin: date
    first_span: int
    timezone: str

    def local_days(self, times: npt.NDArray[np.datetime64]) -> Days:
        """Return the local day of each instant in UTC, shape `(num_events,)`."""
        import pandas as pd

        local: Any = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(ZoneInfo(self.timezone))
        return cast("Days", local.tz_localize(None).to_numpy().astype("datetime64[D]"))

    def span_numbers(self, days: Days) -> npt.NDArray[np.int64]:
        """Return the span of each local day, shape `(num_events,)`."""
        if self.size == "month":
            offsets = days.astype("datetime64[M]").astype(np.int64) - _month_number(self.origin)
        else:
            offsets = (days - np.datetime64(self.origin, "D")).astype(np.int64) // self._num_days
        return offsets + self.first_span

    def span_of(self, day: date) -> int:
        """Return the span of one local day."""
        return int(self.span_numbers(np.array([day], dtype="datetime64[D]"))[0])

    def first_day(self, span: int) -> date:
        """Return the first local day of a span; `first_day(span + 1)` is the day after its last."""
        offset = span - self.first_span
        if self.size == "month":
            first = np.datetime64(_month_number(self.origin) + offset, "M")
        else:
            first = np.datetime64(self.origin, "D") + offset * self._num_days
        return cast("date", first.astype("datetime64[D]").item())

    def start(self, span: int) -> datetime:
        """Return the instant a span starts, in UTC; a span ends where the next one starts."""
        return datetime.combine(self.first_day(span), time(), ZoneInfo(self.timezone)).astimezone(UTC)

    @property
    def _num_days(self) -> int:
        return _DAYS_PER_WEEK if self.size == "week" else 1


def _month_number(day: date) -> int:
    return int(np.datetime64(day, "M").astype(np.int64))
