"""Laws of statistics in this process: they are TFDV's, in any chunks, and merging them is like adding up the data."""

from typing import Any

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from monitoring.span_statistics import compute_statistics
from monitoring.statistics import MAX_TOKENS, merge_statistics, without_atoms

SCHEMA = text_format.Parse(
    """
    feature { name: "number" type: FLOAT }
    feature { name: "count" type: INT }
    feature { name: "code" type: INT int_domain { is_categorical: true } }
    feature { name: "word" type: BYTES }
    feature { name: "image" type: BYTES image_domain {} }
    """,
    schema_pb2.Schema(),
)
VALUES = {
    # Adding zero makes a positive zero of a negative one, which protobuf distinguishes and arithmetic does not.
    "number": (st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.just(0.0)).map(lambda value: value + 0.0),
    "count": st.integers(-5, 5) | st.integers(-(2**40), 2**40),
    # One digit: TFDV's sketch, unlike TFDV on Beam and us, breaks ties of integers as if they were text.
    "code": st.integers(0, 9),
    "word": st.sampled_from([b"a", b"b", b"", "ä".encode(), b"longer"]),
    "image": st.binary(max_size=4),
}
TYPES = {
    "number": pa.float32(),
    "count": pa.int64(),
    "code": pa.int64(),
    "word": pa.large_binary(),
    "image": pa.large_binary(),
}
Rows = list[dict[str, Any]]
# A feature is missing, or has several values, or none, now and then.
ROW = st.fixed_dictionaries({name: st.none() | st.lists(value, max_size=3) for name, value in VALUES.items()})
DATA = st.lists(ROW, max_size=12)
# TFDV's histograms take a tenth of a second each time, and shrinking would take minutes.
LAW = settings(max_examples=10, deadline=None, phases=[Phase.generate])


def _batch(rows: Rows) -> pa.RecordBatch:
    """Return a batch as the decoder makes it: a feature that no example has is no column."""
    names = [name for name in VALUES if any(row[name] is not None for row in rows)]
    if not names:
        return pa.RecordBatch.from_arrays([pa.nulls(len(rows))], ["word"])
    columns = [pa.array([row[name] for row in rows], pa.large_list(TYPES[name])) for name in names]
    return pa.RecordBatch.from_arrays(columns, names)


def _statistics(*chunks: Rows) -> Any:
    return compute_statistics((_batch(rows) for rows in chunks if rows), SCHEMA)


def _facts(statistics: Any) -> dict[str, Any]:
    """Return all that the statistics say, by feature."""
    facts = MessageToDict(without_atoms(statistics))
    by_name = {".".join(feature.pop("path")["step"]): feature for feature in facts.pop("features", [])}
    return {**facts, **by_name}


def _agree(found: Any, expected: Any, *, ignoring: tuple[str, ...] = ()) -> None:
    """Compare all numbers to a part in a million, and all else exactly."""
    if isinstance(expected, dict):
        assert found.keys() - set(ignoring) == expected.keys() - set(ignoring)
        for key in expected.keys() - set(ignoring):
            _agree(found[key], expected[key], ignoring=ignoring)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _agree(one, other, ignoring=ignoring)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)
    else:
        assert found == expected


@LAW
@given(rows=DATA.filter(bool))
def test_statistics_are_those_that_tfdv_computes(rows: Rows) -> None:
    options = tfdv.StatsOptions(schema=SCHEMA, num_rank_histogram_buckets=MAX_TOKENS)
    expected = stats_impl.generate_statistics_in_memory(_batch(rows), options).datasets[0]
    _agree(_facts(_statistics(rows)), _facts(expected))


@LAW
@given(rows=DATA, cut=st.integers(0, 12))
def test_chunks_make_no_difference(rows: Rows, cut: int) -> None:
    _agree(_facts(_statistics(rows[:cut], rows[cut:])), _facts(_statistics(rows)))


@LAW
@given(rows=DATA)
def test_merging_one_changes_nothing(rows: Rows) -> None:
    statistics = _statistics(rows)
    assert merge_statistics([statistics]) == statistics


@LAW
@given(first=DATA, second=DATA)
def test_order_of_parts_makes_no_difference(first: Rows, second: Rows) -> None:
    parts = [_statistics(first), _statistics(second)]
    _agree(_facts(merge_statistics(parts)), _facts(merge_statistics(parts[::-1])))


@LAW
@given(data=st.tuples(DATA, DATA, DATA))
def test_grouping_of_parts_makes_no_difference(data: tuple[Rows, Rows, Rows]) -> None:
    first, second, third = map(_statistics, data)
    grouped = merge_statistics([merge_statistics([first, second]), third])
    _agree(_facts(grouped), _facts(merge_statistics([first, second, third])))


@LAW
@given(first=DATA, second=DATA)
def test_merged_statistics_are_those_of_all_the_data(first: Rows, second: Rows) -> None:
    merged = _facts(merge_statistics([_statistics(first), _statistics(second)]))
    expected = _facts(_statistics(first + second))
    # Between two values of a dozen TFDV's sketch may choose either as their quantile; ranks have a law of their own.
    _agree(merged, expected, ignoring=("histograms", "median", "numValuesHistogram"))


@LAW
@given(data=st.lists(st.lists(st.integers(-20, 20), min_size=1, max_size=40), min_size=2, max_size=4))
def test_merged_quantiles_have_the_right_rank(data: list[list[int]]) -> None:
    parts = [_statistics([{**dict.fromkeys(VALUES), "count": [value]} for value in values]) for values in data]
    values = sorted(value for part in data for value in part)
    (feature,) = merge_statistics(parts).features
    (quantiles,) = (histogram for histogram in feature.num_stats.histograms if histogram.type == histogram.QUANTILES)
    for number, bucket in enumerate(quantiles.buckets, 1):
        rank = number / len(quantiles.buckets) * len(values)
        below = sum(value < bucket.high_value for value in values)
        up_to = sum(value <= bucket.high_value for value in values)
        assert below - 1e-6 <= rank <= up_to + 1e-6
    assert sum(bucket.sample_count for bucket in quantiles.buckets) == pytest.approx(len(values))
