"""Merging statistics: what no law over random data shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from core.errors import SchemaError
from monitoring.distances import measure_distances
from monitoring.span_statistics import beam_options, compute_statistics
from monitoring.statistics import MAX_ATOMS, Atoms, atoms_from_histograms, merge_statistics, without_atoms

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make() -> Make:
    """Return a function from columns, a value per example, to statistics with atoms."""

    def make(**columns: list[Any]) -> Any:
        arrays = [pa.array([[value] for value in values]) for values in columns.values()]
        batch = pa.RecordBatch.from_arrays(arrays, list(columns))
        return compute_statistics([batch], schema_pb2.Schema())

    return make


@pytest.fixture(scope="module")
def weeks() -> list[list[float]]:
    """Return a number that wanders and widens over four weeks."""
    rng = np.random.default_rng(7)
    return [rng.normal(week, 1 + week, 3000).tolist() for week in range(4)]


def _only_feature(statistics: Any) -> Any:
    (feature,) = statistics.features
    return feature


def _as_list(statistics: Any) -> Any:
    wrapped = statistics_pb2.DatasetFeatureStatisticsList()
    wrapped.datasets.add().CopyFrom(without_atoms(statistics))
    return wrapped


def _distance(current: Any, baseline: Any) -> float:
    found = measure_distances(_as_list(current), _as_list(baseline), categorical=(), numeric=("number",))
    return found["number"].value


def _rank_error(statistics: Any, values: list[float]) -> float:
    """Return by how much of the data a quantile is off, at most."""
    ordered = np.sort(values)
    quantiles = _only_feature(statistics).num_stats.histograms[1].buckets
    ranks = np.searchsorted(ordered, [bucket.high_value for bucket in quantiles], side="right") / len(ordered)
    return float(np.abs(ranks - np.arange(1, len(quantiles) + 1) / len(quantiles)).max())


def test_drift_distances_to_a_merged_window_are_those_to_the_whole_window(make: Make, weeks: list[list[float]]) -> None:
    merged = merge_statistics([make(number=week) for week in weeks])
    everything = [value for week in weeks for value in week]
    whole, current = make(number=everything), make(number=weeks[0])
    assert _rank_error(merged, everything) < 0.002
    assert _distance(current, merged) == pytest.approx(_distance(current, whole), abs=0.003)


def test_ten_quantiles_alone_would_not_do(make: Make, weeks: list[list[float]]) -> None:
    everything = [value for week in weeks for value in week]
    merged = merge_statistics([without_atoms(make(number=week)) for week in weeks])
    assert _rank_error(merged, everything) > 0.02


def test_statistics_of_beam_become_mergeable(weeks: list[list[float]]) -> None:
    def by_beam(values: list[float]) -> Any:
        batch = pa.RecordBatch.from_arrays([pa.array([[value] for value in values])], ["number"])
        return stats_impl.generate_statistics_in_memory(batch, beam_options()).datasets[0]

    parts = [by_beam(week) for week in weeks]
    for part in parts:
        atoms_from_histograms(part)
    standard, quantiles = _only_feature(parts[0]).num_stats.histograms
    assert (len(standard.buckets), len(quantiles.buckets)) == (10, 10)
    everything = [value for week in weeks for value in week]
    assert _rank_error(merge_statistics(parts), everything) < 0.01


def test_atoms_stay_few_however_many_parts_there_are(make: Make, weeks: list[list[float]]) -> None:
    merged = merge_statistics([make(number=week) for week in weeks])
    (values,) = (custom for custom in _only_feature(merged).custom_stats if custom.name == "atoms_of_values")
    assert len(values.histogram.buckets) <= MAX_ATOMS + 1
    assert sum(bucket.sample_count for bucket in values.histogram.buckets) == pytest.approx(12_000)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # by TFDV, of their variance
def test_infinite_values_are_kept_apart(make: Make) -> None:
    infinite = make(number=[float("-inf"), 1.0, 2.0])
    merged = _only_feature(merge_statistics([infinite, make(number=[3.0, float("inf")])])).num_stats
    assert (merged.min, merged.max) == (float("-inf"), float("inf"))
    buckets = merged.histograms[0].buckets
    assert (buckets[0].high_value, buckets[0].sample_count) == (float("-inf"), 1)
    assert (buckets[-1].low_value, buckets[-1].sample_count) == (float("inf"), 1)
    assert sum(bucket.sample_count for bucket in buckets) == pytest.approx(5)


def test_feature_of_one_part_is_missing_in_the_other(make: Make) -> None:
    merged = merge_statistics([make(word=[b"a", b"b"], number=[1, 2]), make(number=[3, 4, 5])])
    words = next(feature for feature in merged.features if feature.path.step[0] == "word").string_stats
    assert (words.common_stats.num_non_missing, words.common_stats.num_missing) == (2, 3)


def test_feature_that_changes_its_type_is_refused(make: Make) -> None:
    with pytest.raises(
        SchemaError, match=r"Feature 'code' changes its type\. Expected one in all spans; received \['n"
    ):
        merge_statistics([make(code=[1]), make(code=[b"1"])])


def test_no_data_changes_nothing(make: Make) -> None:
    statistics = make(word=[b"a", b"b", b"a"])
    merged = merge_statistics([statistics, make()])
    assert _only_feature(merged).string_stats == _only_feature(statistics).string_stats


def test_tokens_that_are_not_listed_leave_their_number_a_lower_bound(make: Make) -> None:
    cut = make(word=[b"a", b"b", b"c", b"a"])
    del _only_feature(cut).string_stats.rank_histogram.buckets[1:]  # as beyond MAX_TOKENS
    merged = _only_feature(merge_statistics([cut, make(word=[b"a"])])).string_stats
    assert merged.unique == 3
    assert [(bucket.label, bucket.sample_count) for bucket in merged.rank_histogram.buckets] == [("a", 3)]


def test_atoms_are_thinned_evenly() -> None:
    atoms = Atoms.of(np.arange(5000), np.ones(5000))
    assert (atoms.values[0], atoms.values[-1]) == (0, 4999)
    assert len(atoms.values) == MAX_ATOMS + 1
    assert atoms.counts.sum() == 5000
    assert atoms.counts.max() <= 5
