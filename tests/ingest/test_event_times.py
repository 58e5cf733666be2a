"""Event times: the forms that are read, local time, and what is refused."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.errors import DataError
from ingest.event_times import parse_times

NOON = np.datetime64("2024-07-01T12:00:00", "us")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["2024-07-01T12:00:00Z"]),
        pa.array(["2024-07-01 08:00:00"]),
        pa.array(["2024-07-01T14:00:00+02:00"]),
        pa.array([datetime(2024, 7, 1, 8)], pa.timestamp("s")),
        pa.array([datetime(2024, 7, 1, 12, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
        pa.array([datetime(2024, 7, 1, 14, tzinfo=timezone(timedelta(hours=2)))], pa.timestamp("ms", "+02:00")),
    ],
    ids=["UTC", "local text", "offset", "local timestamp", "UTC timestamp", "timestamp with zone"],
)
def test_all_forms_of_a_time_give_the_same_instant(column: Any) -> None:
    assert parse_times("t", column, "America/New_York") == [NOON]


def test_a_date_is_its_local_midnight() -> None:
    times = parse_times("t", pa.array([date(2024, 7, 1)]), "America/New_York")
    assert times == [np.datetime64("2024-07-01T04:00:00", "us")]


@pytest.mark.parametrize(
    ("local", "instant"),
    [("2013-11-03T01:30:00", "2013-11-03T05:30:00"), ("2013-03-10T02:30:00", "2013-03-10T07:30:00")],
    ids=["repeated hour: the first", "skipped hour: moved on"],
)
def test_times_around_clock_changes_are_defined(local: str, instant: str) -> None:
    assert parse_times("t", pa.array([local]), "America/New_York") == [np.datetime64(instant, "us")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-01-01", "soon", None], r"'t' has 2 values that are no time. .*received \['soon', None\]"),
        (["0001-01-01T00:00:00+14:00"], "has 1 values that are no time"),
        ([1704067200], r"has 1 values that are no time. Expected ISO 8601"),
    ],
    ids=["text and missing", "out of range", "bare number"],
)
def test_what_is_no_time_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_times("t", pa.array(values), "UTC")
