"""The reviewed flights schema accepts the year as it was, and objects to what could not have been."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl

from ingest.flights_source import LABEL, NycFlightsSource
from ingest.records import read_records
from schemas.loader import feature_types, load_schema

SCHEMA = load_schema(Path(__file__).parents[2] / "schemas" / "flights" / "schema.pbtxt")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


@pytest.fixture(scope="module")
def flights() -> Any:
    """Return every fiftieth flight of the year that has an arrival, as ingest types it."""
    records = read_records(
        NycFlightsSource(),
        feature_types(SCHEMA),
        label=LABEL,
        label_required=True,
        timezone="America/New_York",
    )
    return records.usable().features.to_pandas(integer_object_nulls=True).iloc[::50]


@pytest.fixture(scope="module")
def anomalies_of() -> Callable[..., dict[str, list[str]]]:
    """Return a function from a table of flights to the short descriptions of its anomalies, by column."""

    def validate(flights: Any, environment: str = "TRAINING") -> dict[str, list[str]]:
        columns = {name: [None if pd.isna(value) else [value] for value in flights[name]] for name in flights}
        kinds = {"INT": pa.int64(), "FLOAT": pa.float32(), "BYTES": pa.binary()}
        types = feature_types(SCHEMA)
        arrays = [pa.array(values, pa.list_(kinds[types[name]])) for name, values in columns.items()]
        batch = pa.RecordBatch.from_arrays(arrays, list(columns))
        statistics = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=SCHEMA))
        anomalies = tfdv.validate_statistics(statistics, SCHEMA, environment=environment)
        return {
            name: [reason.short_description for reason in info.reason] for name, info in anomalies.anomaly_info.items()
        }

    return validate


def test_the_year_as_it_was_has_no_anomalies(flights: Any, anomalies_of: Any) -> None:
    assert anomalies_of(flights) == {}


def test_the_label_is_expected_in_training_alone(flights: Any, anomalies_of: Any) -> None:
    unlabelled = flights.drop(columns=LABEL)
    assert anomalies_of(unlabelled, "SERVING") == {}
    assert anomalies_of(unlabelled, "TRAINING") == {LABEL: ["Column dropped"]}


def test_carriers_and_airports_never_seen_before_are_no_error(flights: Any, anomalies_of: Any) -> None:
    assert anomalies_of(flights.assign(carrier=b"ZZ", dest=b"XXX", tailnum=b"N0")) == {}


def test_weather_may_be_missing(flights: Any, anomalies_of: Any) -> None:
    assert anomalies_of(flights.assign(**dict.fromkeys(WEATHER, np.nan))) == {}


@pytest.mark.parametrize(
    ("column", "value", "description"),
    [
        ("origin", b"BOS", "Unexpected string values"),
        ("carrier", None, "Column dropped"),
        ("distance", None, "Column dropped"),
        ("sched_dep_minute", 1440, "Out-of-range values"),
        ("sched_arr_minute", -1, "Out-of-range values"),
        ("hour", 24, "Out-of-range values"),
        ("day_of_week", 0, "Out-of-range values"),
        ("distance", 0.0, "Out-of-range values"),
        ("temp", 451.0, "Out-of-range values"),
        ("humid", 101.0, "Out-of-range values"),
        ("wind_dir", 361.0, "Out-of-range values"),
        # The package has this very value, at an hour without flights.
        ("wind_speed", 1048.36, "Out-of-range values"),
        ("pressure", 0.0, "Out-of-range values"),
        ("late", 2, "Out-of-range values"),
    ],
)
def test_what_cannot_be_is_an_anomaly(
    flights: Any, anomalies_of: Any, column: str, value: Any, description: str
) -> None:
    assert description in anomalies_of(flights.assign(**{column: value})).get(column, [])


def test_one_absent_required_value_is_an_anomaly(flights: Any, anomalies_of: Any) -> None:
    carriers = flights["carrier"].to_list()
    assert "carrier" in anomalies_of(flights.assign(carrier=[None, *carriers[1:]]))
