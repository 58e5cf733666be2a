"""What drift needs of TFDV's statistics, read out of their protobuf. Comparing two of them is not here."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FeatureSummary:
    """One feature of one set of statistics.

    Attributes:
        is_categorical: TFDV counted distinct values (text, or integers that the schema calls categorical).
        missing_rate: Share of examples without a value, in [0, 1].
        num_values: Values over all examples; more than the examples where a feature has several.
        counts: Count per listed distinct value; categorical only. TFDV lists the most frequent ones, as many as
            its option `num_rank_histogram_buckets` says.
        num_distinct: Distinct values, listed or not; categorical only.
        mean: Mean of the values that are not NaN; numeric only. NaN where a value is infinite.
        is_constant: There are values and all are the same.
        num_nan: Values that are NaN; numeric only.
        has_infinity: Some value is infinite; numeric only.
    """

    is_categorical: bool
    missing_rate: float
    num_values: float
    counts: dict[str, float] = field(default_factory=dict)
    num_distinct: int = 0
    mean: float = math.nan
    is_constant: bool = False
    num_nan: int = 0
    has_infinity: bool = False

    @property
    def is_finite(self) -> bool:
        """Every value is a finite number, or the feature is categorical."""
        return self.is_categorical or not (self.num_nan or self.has_infinity)


@dataclass(frozen=True)
class SpanSummary:
    """Example count and features, by name, of one set of statistics. A feature no example has is absent."""

    num_examples: int
    features: dict[str, FeatureSummary]


def summarise(statistics: Any) -> SpanSummary:
    """Read a `DatasetFeatureStatisticsList` of one dataset (TFX writes one per split).

    Raises:
        ValueError: the list does not hold exactly one dataset.
    """
    if len(statistics.datasets) != 1:
        raise ValueError(
            f"Drift compares one split's statistics. Expected 1 dataset; received {len(statistics.datasets)}. "
            "Pass the FeatureStats.pb of one split."
        )
    dataset = statistics.datasets[0]
    features = {}
    for proto in dataset.features:
        kind = proto.WhichOneof("stats")
        if kind in ("string_stats", "num_stats") and getattr(proto, kind).common_stats.num_non_missing:
            name = proto.name or ".".join(proto.path.step)
            features[name] = _summarise_feature(getattr(proto, kind), kind == "string_stats", dataset.num_examples)
    return SpanSummary(num_examples=dataset.num_examples, features=features)


def _summarise_feature(stats: Any, is_categorical: bool, num_examples: int) -> FeatureSummary:
    common = stats.common_stats
    missing_rate = 1 - common.num_non_missing / num_examples
    if is_categorical:
        return FeatureSummary(
            is_categorical=True,
            missing_rate=missing_rate,
            num_values=common.tot_num_values,
            counts={bucket.label: bucket.sample_count for bucket in stats.rank_histogram.buckets},
            num_distinct=stats.unique,
            is_constant=stats.unique == 1,
        )
    return FeatureSummary(
        is_categorical=False,
        missing_rate=missing_rate,
        num_values=common.tot_num_values,
        mean=stats.mean,
        is_constant=stats.min == stats.max,
        num_nan=max((histogram.num_nan for histogram in stats.histograms), default=0),
        has_infinity=math.isinf(stats.min) or math.isinf(stats.max),
    )
