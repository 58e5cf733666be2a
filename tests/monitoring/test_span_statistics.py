"""Statistics in this process against TFDV on Beam, on what is rare: other counters of TFDV's do these otherwise."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from monitoring.span_statistics import compute_statistics
from monitoring.statistics import MAX_TOKENS, without_atoms

SCHEMA = text_format.Parse(
    """
    feature { name: "code" type: INT int_domain { is_categorical: true } }
    feature { name: "image" type: BYTES image_domain {} }
    """,
    schema_pb2.Schema(),
)
COLUMNS = {
    "word": pa.array([[b"\xff"], [b"\xfe", b"a"], [], None], pa.large_list(pa.large_binary())),
    "long": pa.array([[b"x" * 2000], [b"y" * 2000], [b"x" * 2000], None], pa.large_list(pa.large_binary())),
    "code": pa.array([[9], [10], [100], None], pa.large_list(pa.int64())),
    "image": pa.array([[b"\xff\xd8"], None, None, [b""]], pa.large_list(pa.large_binary())),
    "nothing": pa.array([[float("nan")], [float("nan")], None, []], pa.large_list(pa.float32())),
    "empty": pa.array([[], [], None, []], pa.large_list(pa.int64())),
    "absent": pa.nulls(4),
}


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(COLUMNS.values()), list(COLUMNS))


def _by_path(dataset: Any) -> dict[str, Any]:
    return {str(feature.path): feature for feature in dataset.features}


@pytest.mark.slow
def test_rare_values_are_counted_as_on_beam(batch: pa.RecordBatch, tmp_path: Path) -> None:
    options = tfdv.StatsOptions(schema=SCHEMA, num_rank_histogram_buckets=MAX_TOKENS)
    with beam.Pipeline(
        options=PipelineOptions(["--runner=FnApiRunner", "--direct_running_mode=in_memory"])
    ) as pipeline:
        statistics = pipeline | beam.Create([batch]) | tfdv.GenerateStatistics(options)
        _ = statistics | tfdv.WriteStatisticsToBinaryFile(str(tmp_path / "statistics"))
    (expected,) = tfdv.load_stats_binary(str(tmp_path / "statistics")).datasets
    found = without_atoms(compute_statistics([batch], SCHEMA))
    assert found.num_examples == expected.num_examples == 4
    assert _by_path(found) == _by_path(expected)


def test_no_example_is_no_feature() -> None:
    statistics = compute_statistics([], SCHEMA)
    assert (statistics.num_examples, len(statistics.features)) == (0, 0)


def test_every_token_is_counted_past_what_a_sketch_holds() -> None:
    tokens = [str(number).encode() for number in range(MAX_TOKENS + 5_000)]
    batches = [
        pa.RecordBatch.from_arrays([pa.array([[token] for token in tokens[start::4]])], ["id"]) for start in range(4)
    ]
    (feature,) = compute_statistics([*batches, batches[0]], SCHEMA).features
    assert feature.string_stats.unique == len(tokens)
    buckets = feature.string_stats.rank_histogram.buckets
    assert len(buckets) == MAX_TOKENS
    assert [bucket.sample_count for bucket in buckets] == [2] * len(tokens[::4]) + [1] * (MAX_TOKENS - len(tokens[::4]))
