"""TFDV's statistics of examples in this process, batch by batch, without Beam. Merging data sets is not here."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics.generators.basic_stats_generator import BasicStatsGenerator
from tensorflow_data_validation.utils import schema_util
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.sketches import QuantilesSketch

from monitoring.statistics import LENGTHS, MAX_ATOMS, MAX_TOKENS, VALUES, Atoms, put_atoms, put_tokens

# Ranks of the atoms are within this share of the truth. TFDV's own histograms are made with 0.01.
RANK_ERROR = 0.0005
# TFDV on Beam computes this many quantiles to make atoms of; a hundred times as many lie behind its histograms.
BEAM_QUANTILES = 100


def beam_options() -> tfdv.StatsOptions:
    """Return the options by which TFDV on Beam computes what `compute_statistics` does, fine enough to be merged."""
    return tfdv.StatsOptions(
        num_rank_histogram_buckets=MAX_TOKENS,
        num_quantiles_histogram_buckets=BEAM_QUANTILES,
        num_values_histogram_buckets=BEAM_QUANTILES,
    )


def compute_statistics(batches: Iterable[pa.RecordBatch], schema: schema_pb2.Schema) -> Any:
    """Return the `DatasetFeatureStatistics` of some examples, with atoms, as TFDV computes them on Beam.

    All but the tokens is TFDV's `BasicStatsGenerator`, fed directly. TFDV's in-memory counter of tokens is a sketch,
    inexact past some thousands and drawing from NumPy's global random state; here every token is counted, as on Beam.
    Memory grows with the number of distinct tokens, not with that of examples.

    Args:
        batches: A list column per feature, as the data has them: TFX's StatisticsGen reads without a schema, so that
            ExampleValidator sees columns and types that the schema does not know.
        schema: Which integers are categories, and which bytes are no text.
    """
    basic = BasicStatsGenerator(schema=schema)
    accumulator = basic.create_accumulator()
    columns: defaultdict[str, _Column] = defaultdict(_Column)
    unread = {path.steps()[0] for path in schema_util.get_bytes_features(schema)}
    categories = schema_util.get_categorical_numeric_feature_types(schema)
    coded = {path.steps()[0] for path, kind in categories.items() if kind == schema_pb2.INT}
    for batch in batches:
        accumulator = basic.add_input(accumulator, batch)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            columns[name].add(column, is_counted=name not in unread, is_coded=name in coded)
    statistics = basic.extract_output(basic.compact(accumulator))
    for feature in statistics.features:
        columns[feature.path.step[0]].complete(feature)
    return statistics


class _Column:
    """What TFDV's generator does not keep of a feature: its tokens, and the atoms of its values and lengths."""

    def __init__(self) -> None:
        self._tokens: Counter[Any] = Counter()
        self._lengths: Counter[int] = Counter()
        self._sketch: Any = None

    def add(self, column: pa.Array, *, is_counted: bool, is_coded: bool) -> None:
        """Take in the values of one batch, a list per example.

        Args:
            column: The values.
            is_counted: Bytes are text.
            is_coded: Integers are categories.
        """
        if pa.types.is_null(column.type):
            return
        self._lengths.update(_counts(pc.list_value_length(column).drop_null()))
        values = column.flatten()
        is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        if (is_coded and pa.types.is_integer(values.type)) or (is_counted and not is_number):
            self._tokens.update(_counts(values))
        elif is_number:
            self._sketch = self._sketch or QuantilesSketch(RANK_ERROR, 1 << 32, 1)
            self._sketch.AddValues(values.filter(pc.invert(pc.is_nan(values.cast(pa.float64(), safe=False)))))

    def complete(self, feature: Any) -> None:
        """Add what was kept to the feature's statistics."""
        if self._lengths:
            put_atoms(feature, LENGTHS, Atoms.of(list(self._lengths), list(self._lengths.values())))
        if self._tokens:
            put_tokens(feature, self._tokens, len(self._tokens))
        has_histograms = feature.WhichOneof("stats") == "num_stats" and any(
            histogram.buckets for histogram in feature.num_stats.histograms
        )
        if has_histograms:
            quantiles, cumulative = self._sketch.GetQuantilesAndCumulativeWeights(MAX_ATOMS)
            put_atoms(feature, VALUES, Atoms.of_quantiles(_flat(quantiles), _flat(cumulative)))


def _counts(values: pa.Array) -> dict[Any, int]:
    found = values.value_counts()
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def _flat(array: Any) -> Any:
    return array.flatten().to_numpy(zero_copy_only=False)
