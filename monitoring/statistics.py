"""Statistics of several data sets as one, from their TFDV protobufs alone. Reading examples is not here.

Counts add up; quantiles do not. So statistics that will be merged carry *atoms* beside TFDV's ten-bucket histograms:
some `MAX_ATOMS` pairs (value, count) of a number, by which a value's rank is known to one in a thousand. Atoms are a
custom statistic of a feature, as TFDV provides for; what is published has none (`without_atoms`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_data_validation import FeaturePath
from tensorflow_data_validation.utils import quantiles_util, top_k_uniques_stats_util
from tensorflow_metadata.proto.v0 import statistics_pb2

from core.errors import SchemaError

# Every token is listed up to here: exact distances and new values need them; TFDV's default is 1,000.
MAX_TOKENS = 10_000
# TFDV's own number of quantiles behind a histogram of ten buckets: its factor of 100 for each.
MAX_ATOMS = 1_000
# As TFDV's own options have it.
NUM_BUCKETS = 10
NUM_TOP_VALUES = 20

VALUES = "atoms_of_values"
LENGTHS = "atoms_of_lengths"  # how many values an example has
_Feature = statistics_pb2.FeatureNameStatistics
_Histogram = statistics_pb2.Histogram


@dataclass(frozen=True)
class Atoms:
    """A distribution as sorted distinct values and how often each occurs, both of shape `(num_atoms,)`."""

    values: Any
    counts: Any

    @classmethod
    def of(cls, values: Any, counts: Any) -> "Atoms":
        """Return atoms of values in any order; more than `MAX_ATOMS` are thinned to that many quantiles."""
        distinct, places = np.unique(np.asarray(values, float), return_inverse=True)
        summed = np.bincount(places.ravel(), weights=counts, minlength=len(distinct))
        if len(distinct) <= MAX_ATOMS + 1:
            return cls(distinct, summed)
        return cls.of_quantiles(*cls(distinct, summed).quantiles(MAX_ATOMS))

    @classmethod
    def of_quantiles(cls, quantiles: Any, cumulative: Any) -> "Atoms":
        """Return atoms at quantiles, the smallest value first, from the counts of all values up to each."""
        last = np.append(quantiles[1:] != quantiles[:-1], True)
        return cls(quantiles[last], np.diff(cumulative[last], prepend=0.0))

    def quantiles(self, num_buckets: int) -> tuple[Any, Any]:
        """Return `num_buckets` + 1 values that bound equally many, and the counts up to each, as TFDV's sketch does."""
        cumulative = np.cumsum(self.counts)
        targets = np.linspace(0, cumulative[-1], num_buckets + 1)
        # Sums of fractions may miss a whole number by their rounding.
        places = np.searchsorted(cumulative, targets - 1e-9 * cumulative[-1]).clip(max=len(cumulative) - 1)
        return self.values[places], cumulative[places]


def merge_statistics(parts: Sequence[Any]) -> Any:
    """Return the `DatasetFeatureStatistics` of all the data that `parts` describe, without reading any of it.

    Counts, missing, minimum, maximum, mean, standard deviation and zeros are exact, and so are tokens and their number
    as long as every part lists all of its tokens; beyond, the number of distinct tokens is a lower bound. Ranks in
    histograms and the median are as good as the parts' atoms: to one in a thousand. A part without atoms gives its
    ten quantiles. Weighted statistics, nested features and slices, which no statistics of ours have, are left out.

    Args:
        parts: `DatasetFeatureStatistics`, in any order; one alone is returned as it is.

    Raises:
        SchemaError: a feature is text in one part and a number in another.
    """
    merged = statistics_pb2.DatasetFeatureStatistics()
    if len(parts) == 1:
        merged.CopyFrom(parts[0])
        return merged
    merged.num_examples = sum(part.num_examples for part in parts)
    merged.weighted_num_examples = sum(part.weighted_num_examples for part in parts)
    by_path = defaultdict(list)
    for part in parts:
        for feature in part.features:
            by_path[tuple(feature.path.step) or (feature.name,)].append(feature)
    for path in sorted(by_path):
        merged.features.append(_merge_feature(path, by_path[path], merged.num_examples))
    return merged


def put_atoms(feature: Any, name: str, atoms: Atoms) -> None:
    """Add atoms to a feature of some statistics, as a histogram of buckets without width."""
    buckets = feature.custom_stats.add(name=name).histogram.buckets
    for value, count in zip(atoms.values.tolist(), atoms.counts.tolist(), strict=True):
        buckets.add(low_value=value, high_value=value, sample_count=count)


def put_tokens(feature: Any, counts: Counter[Any], num_distinct: int) -> None:
    """Fill in which tokens a feature has, most frequent first: bytes, text or integers, as TFDV writes them."""
    pairs = [top_k_uniques_stats_util.FeatureValueCount(*pair) for pair in counts.items()]
    made = top_k_uniques_stats_util.make_feature_stats_proto_topk_uniques(
        feature_path=FeaturePath.from_proto(feature.path),
        num_top_values=NUM_TOP_VALUES,
        num_rank_histogram_buckets=MAX_TOKENS,
        num_unique=num_distinct,
        value_count_list=pairs,
    )
    feature.string_stats.MergeFrom(made.string_stats)


def without_atoms(statistics: Any) -> Any:
    """Return statistics as TFDV publishes them."""
    published = statistics_pb2.DatasetFeatureStatistics()
    published.CopyFrom(statistics)
    for feature in published.features:
        kept = [custom for custom in feature.custom_stats if custom.name not in (VALUES, LENGTHS)]
        del feature.custom_stats[:]
        feature.custom_stats.extend(kept)
    return published


def atoms_from_histograms(statistics: Any) -> None:
    """Turn quantile histograms of many buckets into atoms and TFDV's usual ones, in place.

    That is how statistics that Beam computed, where nothing of ours can look at the values, become mergeable.
    """
    for feature in statistics.features:
        stats = getattr(feature, feature.WhichOneof("stats"))
        for name, histogram in _quantile_histograms(feature, stats):
            atoms, num_nan = _atoms_of_histogram(histogram), histogram.num_nan
            put_atoms(feature, name, atoms)
            histogram.CopyFrom(quantiles_util.generate_quantiles_histogram(*atoms.quantiles(NUM_BUCKETS)))
            histogram.num_nan = num_nan


def _quantile_histograms(feature: Any, stats: Any) -> Iterable[tuple[str, Any]]:
    if stats.common_stats.HasField("num_values_histogram"):
        yield LENGTHS, stats.common_stats.num_values_histogram
    for histogram in stats.histograms if feature.WhichOneof("stats") == "num_stats" else ():
        if histogram.type == _Histogram.QUANTILES and histogram.buckets:
            yield VALUES, histogram


def _atoms_of_histogram(histogram: Any) -> Atoms:
    """Return atoms at the buckets' upper ends, where the quantiles are, and the minimum, whose count is in them."""
    values = [histogram.buckets[0].low_value, *(bucket.high_value for bucket in histogram.buckets)]
    return Atoms.of(values, [0.0, *(bucket.sample_count for bucket in histogram.buckets)])


def _merged_atoms(features: Sequence[Any], name: str) -> Atoms:
    """Return one distribution of all parts, from their atoms, or from their quantiles where a part has none."""
    found = []
    for feature in features:
        own = [custom.histogram for custom in feature.custom_stats if custom.name == name]
        stats = getattr(feature, feature.WhichOneof("stats"))
        found += own or [histogram for kind, histogram in _quantile_histograms(feature, stats) if kind == name]
    atoms = [_atoms_of_histogram(histogram) for histogram in found]
    return Atoms.of(np.concatenate([a.values for a in atoms]), np.concatenate([a.counts for a in atoms]))


def _merge_feature(path: tuple[str, ...], parts: Sequence[Any], num_examples: int) -> Any:
    kind = _kind(path, parts)
    merged = _Feature(type=next(part.type for part in parts if part.WhichOneof("stats") == kind))
    merged.path.step.extend(path)
    alike = [part for part in parts if part.WhichOneof("stats") == kind]
    common = getattr(merged, kind).common_stats
    _merge_common(merged, common, parts, num_examples)
    merge = {"num_stats": _merge_numbers, "string_stats": _merge_tokens, "bytes_stats": _merge_bytes}
    if common.tot_num_values:
        merge[kind](merged, [part for part in alike if getattr(part, kind).common_stats.tot_num_values])
    return merged


def _kind(path: tuple[str, ...], parts: Sequence[Any]) -> str:
    """Return which statistics a feature has; TFDV calls one that is always missing text."""
    kinds = {
        part.WhichOneof("stats")
        for part in parts
        if getattr(part, part.WhichOneof("stats")).common_stats.num_non_missing
    }
    if len(kinds) > 1:
        raise SchemaError(
            f"Feature {'.'.join(path)!r} changes its type. Expected one in all spans; received {sorted(kinds)}. "
            "Give it one type at the source, and ingest the spans that differ again."
        )
    return str(kinds.pop() if kinds else parts[0].WhichOneof("stats"))


def _merge_common(feature: Any, common: Any, parts: Sequence[Any], num_examples: int) -> None:
    found = [getattr(part, part.WhichOneof("stats")).common_stats for part in parts]
    present = [each for each in found if each.num_non_missing]
    common.num_non_missing = sum(each.num_non_missing for each in found)
    common.num_missing = num_examples - common.num_non_missing
    if not present:
        return
    common.min_num_values = min(each.min_num_values for each in present)
    common.max_num_values = max(each.max_num_values for each in present)
    common.tot_num_values = sum(each.tot_num_values for each in present)
    common.avg_num_values = common.tot_num_values / common.num_non_missing
    lengths = _merged_atoms(parts, LENGTHS)
    histogram = quantiles_util.generate_quantiles_histogram(*lengths.quantiles(NUM_BUCKETS))
    common.num_values_histogram.CopyFrom(histogram)
    put_atoms(feature, LENGTHS, lengths)


def _merge_tokens(merged: Any, parts: Sequence[Any]) -> None:
    found = [part.string_stats for part in parts]
    target = merged.string_stats
    target.avg_length = sum(each.avg_length * each.common_stats.tot_num_values for each in found)
    target.avg_length /= target.common_stats.tot_num_values
    target.invalid_utf8_count = sum(each.invalid_utf8_count for each in found)
    counts: Counter[Any] = Counter()
    for each in found:
        for bucket in each.rank_histogram.buckets:
            # Integers break ties as integers.
            counts[int(bucket.label) if merged.type == _Feature.INT else bucket.label] += bucket.sample_count
    if counts:
        put_tokens(merged, counts, max(len(counts), *(each.unique for each in found)))


def _merge_bytes(merged: Any, parts: Sequence[Any]) -> None:
    found = [part.bytes_stats for part in parts]
    target = merged.bytes_stats
    target.avg_num_bytes = sum(each.avg_num_bytes * each.common_stats.tot_num_values for each in found)
    target.avg_num_bytes /= target.common_stats.tot_num_values
    target.min_num_bytes = min(each.min_num_bytes for each in found)
    target.max_num_bytes = max(each.max_num_bytes for each in found)
    target.max_num_bytes_int = max(each.max_num_bytes_int for each in found)


def _merge_numbers(merged: Any, parts: Sequence[Any]) -> None:
    target = merged.num_stats
    num_nan = sum(_num_nan(part.num_stats) for part in parts)
    parts = [part for part in parts if part.num_stats.common_stats.tot_num_values > _num_nan(part.num_stats)]
    if parts:
        _merge_moments(target, [part.num_stats for part in parts])
        atoms = _merged_atoms(parts, VALUES)
        _write_histograms(target, atoms, [part.num_stats for part in parts])
        put_atoms(merged, VALUES, atoms)
    elif num_nan:
        target.histograms.add(type=_Histogram.STANDARD)
        target.histograms.add(type=_Histogram.QUANTILES)
    for histogram in target.histograms:
        histogram.num_nan = num_nan


def _num_nan(stats: Any) -> int:
    return max((int(histogram.num_nan) for histogram in stats.histograms), default=0)


def _merge_moments(target: Any, found: Sequence[Any]) -> None:
    """Fill in what is exact.

    Source:
        Chan, Golub, LeVeque, Algorithms for computing the sample variance, The American Statistician 37 (1983), eq. 2.1
    """
    counts = np.array([each.common_stats.tot_num_values - _num_nan(each) for each in found], float)
    means = np.array([each.mean for each in found])
    with np.errstate(invalid="ignore"):  # a mean of infinite values is infinite, or no number
        mean = counts @ means / counts.sum()
        variance = counts @ (np.array([each.std_dev for each in found]) ** 2 + (means - mean) ** 2) / counts.sum()
    target.mean, target.std_dev = mean, np.sqrt(variance)
    target.num_zeros = sum(each.num_zeros for each in found)
    target.min = min(each.min for each in found)
    target.max = max(each.max for each in found)


def _write_histograms(target: Any, atoms: Atoms, found: Sequence[Any]) -> None:
    """Fill in the median and both histograms by TFDV's own functions, as if the atoms came from its sketch."""
    finite = [
        bucket
        for each in found
        for histogram in each.histograms
        for bucket in histogram.buckets
        if histogram.type == _Histogram.STANDARD
    ]
    bounds = [end for bucket in finite for end in (bucket.low_value, bucket.high_value) if np.isfinite(end)]
    quantiles, counts = atoms.quantiles(MAX_ATOMS)
    target.median = quantiles_util.find_median(quantiles)
    standard = quantiles_util.generate_equi_width_histogram(
        quantiles=quantiles,
        cumulative_counts=counts,
        finite_min=min(bounds, default=target.min),
        finite_max=max(bounds, default=target.max),
        num_buckets=NUM_BUCKETS,
        num_pos_inf=sum(bucket.sample_count for bucket in finite if bucket.low_value == np.inf),
    )
    rebinned = quantiles_util.rebin_quantiles(quantiles, counts, MAX_ATOMS // NUM_BUCKETS)
    target.histograms.extend([standard, quantiles_util.generate_quantiles_histogram(*rebinned)])
