"""The flights that left New York in 2013 as a stream of weeks or days, with the features of `conf/flights.yaml`.

The *extended* features add what is known at schedule time too and what a streaming feature store would hold: how many
departures are scheduled around a flight, the weather of the hours before, and how late flights like it were lately,
from labels that are old enough to be known.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from benchmarks.continual.streams import NUM_WARM_UP_SPANS, Stream
from ingest.flights_source import NycFlightsSource
from schemas.features import FeatureSet
from schemas.training import ModelOptions, TrainingOptions

CONFIG = Path("conf/flights.yaml")
DAYS_A_WEEK = 7
REFRESH_WEEKS = 4
WINDOW_WEEKS = 8
# The model of the config. The rates and epochs are those that did best on one seed.
TRAINING = TrainingOptions(
    model=ModelOptions(hidden_units=(64, 32)),
    batch_size=256,
    epochs_cold=4,
    epochs_warm=1,
    learning_rate=1e-3,
    warm_learning_rate=6e-4,
    learning_rate_policy="constant",
)
# A label is known 48 hours after the flight. At midnight all of a day is known if it ended 48 hours before.
LABEL_DELAY_DAYS = 2
_FIRST_DAY, _TIMEZONE = pd.Timestamp("2013-01-01"), "America/New_York"
_NUM_DAYS = 365
_LATE, _DAY = "late", "day"
# Lateness of flights with the same keys over the newest known days. Short windows see the weather and the crowds of
# these days, long ones the habits of an airline, a destination, an hour, a flight number.
_LATENESS = {
    "lateness_3d": ((), 3),
    "lateness_14d": ((), 14),
    "lateness_carrier_3d": (("carrier",), 3),
    "lateness_carrier_14d": (("carrier",), 14),
    "lateness_dest_14d": (("dest",), 14),
    "lateness_origin_hour_14d": (("origin", "hour"), 14),
    "lateness_flight_28d": (("carrier", "flight"), 28),
}
_PRIOR_RATE, _PRIOR_FLIGHTS = 0.25, 20  # few flights with the same keys say little: shrink them to about the base rate
_DEPARTURES = {
    "departures_hour": ["origin", "time_hour"],
    "departures_carrier_hour": ["origin", "carrier", "time_hour"],
}
_WEATHER_HOURS = 6  # a storm's delays outlast the storm
_WEATHER = {"precip": "sum", "visib": "min", "wind_speed": "max"}


def flights_stream(
    *, days: int = DAYS_A_WEEK, num_weeks: int | None = None, extended: bool = False, thin: int = 1
) -> Stream:
    """Return the year as a stream; all known flights of a span are learned after all of them were scored.

    A week counts as known when the next begins, although labels of its last two days are still open then; spans of a
    day obey the delay of 48 hours.

    Args:
        days: Length of a span.
        num_weeks: Only the first weeks; None: all.
        extended: Add the extended features.
        thin: Take every so many-th flight.
    """
    flights = _flights()
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    features = config["features"]
    if extended:
        flights = _extended(flights)
        new = [*_LATENESS, *_DEPARTURES, "departures_before", *(f"{name}_6h" for name in _WEATHER)]
        features = features | {name: {"kind": "numeric"} for name in new}
    feature_set = FeatureSet.model_validate({"features": features, "label": config["label"]})
    known = flights[flights[_LATE].notna()].iloc[::thin]
    last = _NUM_DAYS if num_weeks is None else num_weeks * DAYS_A_WEEK
    spans = tuple(
        known[known[_DAY].between(start, start + days - 1)].reset_index(drop=True) for start in range(0, last, days)
    )
    return Stream(
        name="flights",
        feature_set=feature_set,
        spans=spans,
        training=TRAINING,
        num_warm_up=NUM_WARM_UP_SPANS * DAYS_A_WEEK // days,
        refresh_every_spans=REFRESH_WEEKS * DAYS_A_WEEK // days,
        window_spans=WINDOW_WEEKS * DAYS_A_WEEK // days,
        label_delay_spans=LABEL_DELAY_DAYS if days == 1 else 0,
    )


def _flights() -> pd.DataFrame:
    source = NycFlightsSource()
    flights = pa.Table.from_batches(list(source.read(source.column_names()))).to_pandas()
    local = flights["event_time"].dt.tz_convert(_TIMEZONE).dt.tz_localize(None)
    flights = flights.assign(**{_DAY: (local - _FIRST_DAY).dt.days, _LATE: flights[_LATE].astype("float32")})
    return flights.sort_values(["event_time", "carrier", "flight"], kind="stable", ignore_index=True)


def _extended(flights: pd.DataFrame) -> pd.DataFrame:
    columns = {name: flights.groupby(keys)["day"].transform("size") for name, keys in _DEPARTURES.items()}
    columns["departures_before"] = flights.groupby(["origin", _DAY]).cumcount()
    columns |= {name: lateness(flights, keys, days) for name, (keys, days) in _LATENESS.items()}
    return flights.assign(**columns).merge(_recent_weather(flights), how="left", on=["origin", "time_hour"])


def lateness(flights: pd.DataFrame, keys: tuple[str, ...], days: int) -> pd.Series:
    """Return the late share of flights with the same keys over the newest `days` whose labels are known.

    Args:
        flights: Columns `day`, `late` (NaN: no label), and the keys.
        keys: What the flights have in common; none: all flights.
        days: Length of the window.
    """
    code = flights.groupby(list(keys)).ngroup().to_numpy() if keys else np.zeros(len(flights), np.int64)
    day, late = flights[_DAY].to_numpy(), flights[_LATE].to_numpy(np.float64)
    is_known = ~np.isnan(late)
    shape = (code.max() + 1, _NUM_DAYS + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (code[is_known], day[is_known] + 1), late[is_known])
    np.add.at(counts, (code[is_known], day[is_known] + 1), 1)
    sums, counts = sums.cumsum(axis=1), counts.cumsum(axis=1)
    end = np.maximum(day - LABEL_DELAY_DAYS, 0)  # sums over days before it
    start = np.maximum(end - days, 0)
    num_late = sums[code, end] - sums[code, start] + _PRIOR_RATE * _PRIOR_FLIGHTS
    return pd.Series(num_late / (counts[code, end] - counts[code, start] + _PRIOR_FLIGHTS), index=flights.index)


def _recent_weather(flights: pd.DataFrame) -> pd.DataFrame:
    """Return the weather at each origin over the hours up to a departure's, as it is recorded with the departures."""
    hourly = flights.drop_duplicates(["origin", "time_hour"])[["origin", "time_hour", *_WEATHER]]
    found = []
    for _, weather in hourly.groupby("origin"):
        hours = pd.to_datetime(weather["time_hour"], utc=True, format="%Y-%m-%dT%H:%M:%SZ")
        rolling = weather.set_index(hours).sort_index()[list(_WEATHER)].rolling(f"{_WEATHER_HOURS}h", min_periods=1)
        recent = rolling.agg(_WEATHER).add_suffix(f"_{_WEATHER_HOURS}h")
        found.append(weather.set_index(hours).sort_index()[["origin", "time_hour"]].join(recent))
    return pd.concat(found, ignore_index=True)
