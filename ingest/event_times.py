"""Reads event times from columns of timestamps, dates or ISO 8601 text."""

from datetime import UTC, date, datetime, time
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import DataError
from ingest.columns import MAX_RENDERED_VALUES

Times = npt.NDArray[np.datetime64]


def parse_times(name: str, column: pa.Array, timezone: str) -> Times:
    """Return each record's event time in UTC, in microseconds, shape `(num_records,)`.

    A time without an offset is local to `timezone`: of an hour that clocks repeat the first is meant, and a time in an
    hour that they skip is moved on by the length of the gap.

    Raises:
        DataError: times that are missing or unreadable, with their count and the first ones.
    """
    if pa.types.is_timestamp(column.type) and column.type.tz is not None and not column.null_count:
        # Arrow keeps an instant with a zone in UTC; the zone is only for display.
        instants = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        return cast("Times", instants.to_numpy().astype("datetime64[us]"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values = column.to_pylist()
    zone = ZoneInfo(timezone)
    instants_by_value = {value: _instant(value, zone) for value in set(values)}
    wrong = [value for value in values if instants_by_value[value] is None]
    if wrong:
        raise DataError(
            f"Time column {name!r} has {len(wrong)} values that are no time. Expected ISO 8601 such as "
            f"'2013-01-31T17:05:00-05:00'; received {wrong[:MAX_RENDERED_VALUES]}. Correct the source, or name another "
            "`time_column`."
        )
    return np.array([instants_by_value[value] for value in values], dtype="datetime64[us]")


def _instant(value: Any, zone: ZoneInfo) -> datetime | None:
    """Return a time as a naive datetime in UTC, which is what numpy takes, or None if it is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return None
    local = value if value.tzinfo else value.replace(tzinfo=zone)
    try:
        return local.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:  # Year 1 or 9999, on the wrong side of the offset.
        return None
