"""Event-time windows: laws, clock changes and month lengths."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.windows import Windows
from schemas.ingestion import WindowSize

DAYS = st.dates(date(1990, 1, 1), date(2090, 12, 31))
SIZES = st.sampled_from(["day", "week", "month"])
ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia"])


@given(SIZES, DAYS, st.integers(0, 1000), DAYS)
def test_every_day_lies_in_the_span_it_is_given(size: WindowSize, origin: date, first_span: int, day: date) -> None:
    windows = Windows(size, origin.replace(day=1), first_span, "UTC")
    span = windows.span_of(day)
    assert windows.first_day(span) <= day < windows.first_day(span + 1)


@given(SIZES, DAYS, st.integers(0, 1000), st.integers(-200, 200))
def test_a_spans_first_day_lies_in_it(size: WindowSize, origin: date, first_span: int, span: int) -> None:
    windows = Windows(size, origin.replace(day=1), first_span, "UTC")
    assert windows.span_of(windows.first_day(span)) == span


@given(SIZES, ZONES, st.datetimes(datetime(1990, 1, 1), datetime(2089, 1, 1)))
def test_every_instant_lies_between_its_spans_start_and_the_next(
    size: WindowSize, zone: str, instant: datetime
) -> None:
    windows = Windows(size, date(2000, 1, 1), 1, zone)
    span = int(windows.span_numbers(windows.local_days(np.array([instant], "datetime64[us]")))[0])
    assert windows.start(span) <= instant.replace(tzinfo=UTC) < windows.start(span + 1)


def test_first_span_starts_at_the_origin() -> None:
    windows = Windows("week", date(2013, 1, 1), 7, "UTC")
    assert windows.first_day(7) == date(2013, 1, 1)
    assert windows.span_of(date(2012, 12, 31)) == 6


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2013, 3, 10), 23), (date(2013, 11, 3), 25), (date(2013, 6, 1), 24)],
    ids=["clocks go forward", "clocks go back", "plain day"],
)
def test_days_follow_the_clock_changes(day: date, hours: int) -> None:
    windows = Windows("day", day, 1, "America/New_York")
    assert windows.start(2) - windows.start(1) == timedelta(hours=hours)


def test_months_are_calendar_months() -> None:
    windows = Windows("month", date(2023, 12, 1), 1, "UTC")
    assert [windows.first_day(span) for span in (1, 2, 3, 4)] == [
        date(2023, 12, 1),
        date(2024, 1, 1),
        date(2024, 2, 1),
        date(2024, 3, 1),
    ]
