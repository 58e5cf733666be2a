"""One span's statistics held against one baseline's, as findings. What a span says on its own is in drift.py."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.bounds import bounded_finding, plain_finding
from monitoring.distances import JENSEN_SHANNON, L_INFINITY, Distance, measure_distances
from monitoring.summaries import FeatureSummary, SpanSummary, summarise
from schemas.drift import DriftOptions, FeatureDrift
from schemas.features import FeatureSet
from schemas.verdicts import Finding, Verdict

PREVIOUS = "previous"
REFERENCE = "reference"
BASELINE_WORDS = {PREVIOUS: "the previous span", REFERENCE: "the champion's training data"}
_DISTANCE_WORDS = {L_INFINITY: "L-infinity distance", JENSEN_SHANNON: "Jensen-Shannon divergence"}


@dataclass(frozen=True)
class Comparison:
    """What changed between a baseline and a span, under the names `previous` or `reference`."""

    now: SpanSummary
    then: SpanSummary
    distances: Mapping[str, Distance]
    against: str
    options: DriftOptions
    feature_set: FeatureSet

    @classmethod
    def of(
        cls, current: Any, baseline: Any, against: str, *, options: DriftOptions, feature_set: FeatureSet
    ) -> "Comparison":
        """Summarise two `DatasetFeatureStatisticsList` and measure the distances between them."""
        now, then = summarise(current), summarise(baseline)
        names = [name for name in (*feature_set.features, feature_set.label.name) if _comparable(name, now, then)]
        distances = measure_distances(
            current,
            baseline,
            categorical=[name for name in names if now.features[name].is_categorical],
            numeric=[name for name in names if not now.features[name].is_categorical],
        )
        return cls(now, then, distances, against, options, feature_set)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings on example count and label, then feature by feature in the config's order."""
        if self.against == PREVIOUS:
            # The reference may be a whole window: only the previous span's count says something about this one's.
            yield self._example_count()
        if self.feature_set.label.name in self.distances:
            yield self._label_rate()
        for name in self.feature_set.features:
            bounds = self.options.of_feature(name)
            yield self._distance(name, bounds)
            yield self._missing_rate(name, bounds)
            if name in self.distances and self.now.features[name].is_categorical:
                yield self._new_values(name, bounds)

    @property
    def _baseline(self) -> str:
        return BASELINE_WORDS[self.against]

    def _example_count(self) -> Finding:
        now, then = self.now.num_examples, self.then.num_examples
        ratio = max(now, then) / min(now, then)
        return bounded_finding(
            f"The span has {now} examples and {self._baseline} {then}, a ratio of {ratio:.3g}",
            ratio,
            bounds=self.options.example_count,
            measure="example_count",
            against=self.against,
        )

    def _label_rate(self) -> Finding:
        name = self.feature_set.label.name
        now, then = self.now.features[name], self.then.features[name]
        if now.is_categorical:
            change = self.distances[name].value
            fact = f"The share of a class of label {name!r} changed by {change:.3g} against {self._baseline}"
        else:
            change = abs(now.mean - then.mean)
            fact = f"The mean of label {name!r} is {now.mean:.3g} and was {then.mean:.3g} in {self._baseline}"
        return bounded_finding(
            fact, change, bounds=self.options.label_rate, measure="label_rate", against=self.against, feature=name
        )

    def _distance(self, name: str, bounds: FeatureDrift) -> Finding:
        distance = self.distances.get(name)
        if distance is None:
            return plain_finding(
                f"The distribution of {name!r} can't be compared with {self._baseline}: one of them has no values, "
                "infinite ones, or values of another kind.",
                Verdict.WARN,
                measure="distance",
                against=self.against,
                feature=name,
            )
        return bounded_finding(
            f"The {_DISTANCE_WORDS[distance.measure]} of {name!r} to {self._baseline} is {distance.value:.3g}",
            distance.value,
            bounds=bounds.distance,
            measure=distance.measure,
            against=self.against,
            feature=name,
        )

    def _missing_rate(self, name: str, bounds: FeatureDrift) -> Finding:
        now, then = (_missing_rate_in(summary, name) for summary in (self.now, self.then))
        return bounded_finding(
            f"{now:.2%} of the examples have no {name!r}, and {then:.2%} in {self._baseline}",
            max(0.0, now - then),
            bounds=bounds.missing_rate,
            measure="missing_rate",
            against=self.against,
            feature=name,
        )

    def _new_values(self, name: str, bounds: FeatureDrift) -> Finding:
        now, then = self.now.features[name], self.then.features[name]
        unlisted = {value: count for value, count in now.counts.items() if value not in then.counts}
        share = sum(unlisted.values()) / now.num_values
        # Statistics list the most frequent values only: a value they don't list need not be new.
        prefix = "At most " if then.num_distinct > len(then.counts) else ""
        return bounded_finding(
            f"{prefix}{share:.2%} of the values of {name!r} ({len(unlisted)} distinct) are not in {self._baseline}",
            share,
            bounds=bounds.new_values,
            measure="new_values",
            against=self.against,
            feature=name,
        )


def _comparable(name: str, now: SpanSummary, then: SpanSummary) -> bool:
    if name not in now.features or name not in then.features:
        return False
    pair = (now.features[name], then.features[name])
    return pair[0].is_categorical == pair[1].is_categorical and all(feature.is_finite for feature in pair)


def _missing_rate_in(summary: SpanSummary, name: str) -> float:
    feature: FeatureSummary | None = summary.features.get(name)
    return 1.0 if feature is None else feature.missing_rate
