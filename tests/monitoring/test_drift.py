"""Whole reports, from statistics and anomalies that TFDV made from columns written out here."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tensorflow_data_validation as tfdv
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from monitoring.drift import measure_drift
from schemas.drift import Bounds, DriftOptions, FeatureDrift, FeatureDriftOverride
from schemas.features import FeatureSet
from schemas.verdicts import DriftReport, Finding

StatisticsOf = Callable[..., Any]
FEATURES = FeatureSet.model_validate(
    {
        "features": {"carrier": {"kind": "vocabulary"}, "temp": {"kind": "numeric"}},
        "label": {"name": "late"},
    }
)
OPTIONS = DriftOptions(min_examples=10)


def columns(*, seed: int = 0, num_examples: int = 200, **changed: Any) -> dict[str, list[Any]]:
    chance = random.Random(seed)
    return {
        "carrier": [chance.choice(("AA", "UA", "DL")) for _ in range(num_examples)],
        "temp": [chance.uniform(0, 30) for _ in range(num_examples)],
        "late": [int(chance.random() < 0.25) for _ in range(num_examples)],
        **changed,
    }


def finding(report: DriftReport, measure: str, *, feature: str | None = None, against: str | None = None) -> Finding:
    (found,) = (
        finding
        for finding in report.findings
        if finding.measure == measure and finding.feature == feature and against in (None, finding.against)
    )
    return found


@pytest.fixture
def drift(statistics_of: StatisticsOf) -> Callable[..., DriftReport]:
    def measure(
        now: Mapping[str, list[Any]], previous: Mapping[str, list[Any]] | None = None, **keywords: Any
    ) -> DriftReport:
        baselines = {} if previous is None else {"previous": statistics_of(previous)}
        keywords = {"options": OPTIONS, "feature_set": FEATURES, **keywords}
        return measure_drift(statistics_of(now), baselines=baselines, **keywords)

    return measure


def test_the_same_data_is_at_distance_zero_and_passes(statistics_of: StatisticsOf) -> None:
    now = statistics_of(columns())
    report = measure_drift(now, baselines={"previous": now, "reference": now}, options=OPTIONS, feature_set=FEATURES)
    compared = [finding for finding in report.findings if finding.against in ("previous", "reference")]
    assert report.verdict == "pass"
    assert {finding.measure for finding in compared} == {
        "example_count", "label_rate", "l_infinity", "jensen_shannon", "missing_rate", "new_values",
    }  # fmt: skip
    assert all(finding.value == (1 if finding.measure == "example_count" else 0) for finding in compared)


def test_the_first_span_passes_and_says_that_nothing_was_compared(drift: Callable[..., DriftReport]) -> None:
    report = drift(columns())
    assert report.verdict == "pass"
    sentence = finding(report, "comparison", against="previous").sentence
    assert sentence == "There are no statistics of the previous span to compare with."
    assert finding(report, "comparison", against="reference").verdict == "pass"


def test_findings_say_value_bound_and_baseline(drift: Callable[..., DriftReport]) -> None:
    then = columns(carrier=["AA"] * 150 + ["UA"] * 50, late=[1] * 50 + [0] * 150)
    now = columns(carrier=["AA"] * 50 + ["UA"] * 130 + ["B6"] * 20, late=[1] * 80 + [0] * 120)
    report = drift(now, then)
    assert finding(report, "l_infinity", feature="carrier").sentence == (
        "The L-infinity distance of 'carrier' to the previous span is 0.5, above the warn bound of 0.3."
    )
    assert finding(report, "new_values", feature="carrier").sentence == (
        "10.00% of the values of 'carrier' (1 distinct) are not in the previous span, within the lowest bound of 0.2."
    )
    assert finding(report, "label_rate", feature="late").sentence == (
        "The mean of label 'late' is 0.4 and was 0.25 in the previous span, above the warn bound of 0.1."
    )
    assert report.verdict == "warn"


def test_bounds_of_a_feature_replace_the_default(drift: Callable[..., DriftReport]) -> None:
    then, now = columns(temp=[1.0, 2.0] * 100), columns(temp=[8.0, 9.0] * 100)
    options = DriftOptions(features={"temp": FeatureDriftOverride(distance=Bounds(cold_start=0.5))})
    report = drift(now, then, options=options)
    assert report.verdict == "cold_start"
    assert finding(report, "jensen_shannon", feature="temp").threshold == 0.5


def test_only_a_rise_of_the_missing_rate_counts(drift: Callable[..., DriftReport]) -> None:
    full, half = columns(), columns(temp=[1.0, None] * 100)
    rise, fall = (finding(report, "missing_rate", feature="temp") for report in (drift(half, full), drift(full, half)))
    assert (rise.value, rise.verdict) == (0.5, "warn")
    assert (fall.value, fall.verdict) == (0.0, "pass")
    assert "50.00% of the examples have no 'temp', and 0.00% in the previous span" in rise.sentence


def test_a_feature_that_vanished_is_missing_everywhere(drift: Callable[..., DriftReport]) -> None:
    report = drift(columns(temp=[None] * 200), columns())
    missing = finding(report, "missing_rate", feature="temp")
    assert (missing.value, missing.verdict) == (1.0, "block")
    assert finding(report, "distance", feature="temp").value is None


def test_a_feature_of_another_kind_is_not_compared(drift: Callable[..., DriftReport]) -> None:
    report = drift(columns(temp=["warm"] * 200), columns())
    assert finding(report, "distance", feature="temp").verdict == "warn"
    assert "values of another kind" in finding(report, "distance", feature="temp").sentence


def test_many_more_examples_than_before_are_a_finding(drift: Callable[..., DriftReport]) -> None:
    report = drift(columns(num_examples=60), columns(num_examples=200))
    assert "60 examples and the previous span 200, a ratio of 3.33, above the warn" in finding(
        report, "example_count"
    ).sentence  # fmt: skip


def test_a_truncated_list_of_values_makes_an_upper_bound(statistics_of: StatisticsOf) -> None:
    then = statistics_of(columns(carrier=["AA"] * 150 + ["UA"] * 50), num_rank_histogram_buckets=1)
    now = statistics_of(columns(carrier=["UA"] * 200))
    report = measure_drift(now, baselines={"reference": then}, options=OPTIONS, feature_set=FEATURES)
    assert finding(report, "new_values", feature="carrier").sentence.startswith("At most 100.00% of the values")


@pytest.mark.parametrize(
    ("changed", "measure", "feature", "sentence"),
    [
        ({"late": [0] * 200}, "label_values", "late", "All examples have one value of label 'late'"),
        ({"late": [None] * 200}, "label_values", "late", "No example has a value of label 'late'"),
        ({"temp": [math.nan] + [1.0] * 199}, "non_finite", "temp", "0.50% of the values of 'temp' are NaN"),
        ({"temp": [math.nan] * 200}, "non_finite", "temp", "100.00% of the values of 'temp' are NaN"),
        ({"temp": [math.inf] + [1.0] * 199}, "non_finite", "temp", "Some values of 'temp' are infinite"),
        ({"temp": [-math.inf, math.nan] * 100}, "non_finite", "temp", "infinite, and 50.00% are NaN"),
    ],
    ids=["one-class", "no-label", "a-nan", "all-nan", "infinity", "both"],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_would_poison_a_model_blocks(
    drift: Callable[..., DriftReport], changed: dict[str, Any], measure: str, feature: str, sentence: str
) -> None:
    report = drift(columns(**changed), columns())
    assert report.verdict == "block"
    assert finding(report, measure, feature=feature).verdict == "block"
    assert sentence in finding(report, measure, feature=feature).sentence


@pytest.mark.parametrize("num_examples", [0, 9], ids=["empty", "too-few"])
def test_too_few_examples_block(drift: Callable[..., DriftReport], num_examples: int) -> None:
    report = drift(columns(num_examples=num_examples), columns())
    assert report.verdict == "block"
    assert finding(report, "num_examples").sentence == (
        f"The train split has {num_examples} examples; at least 10 are needed."
    )


def test_schema_anomalies_get_the_verdict_of_their_type(statistics_of: StatisticsOf) -> None:
    schema = tfdv.infer_schema(statistics_of(columns()))
    now = statistics_of(columns(carrier=["XX"] + ["AA"] * 199, other=["unknown"] * 200))
    options = DriftOptions(anomalies={"ENUM_TYPE_UNEXPECTED_STRING_VALUES": "warn", "SCHEMA_NEW_COLUMN": "cold_start"})
    anomalies = tfdv.validate_statistics(now, schema)
    report = measure_drift(now, baselines={}, anomalies=anomalies, options=options, feature_set=FEATURES)
    unexpected = finding(report, "ENUM_TYPE_UNEXPECTED_STRING_VALUES", feature="carrier", against="schema")
    assert unexpected.verdict == "warn"
    assert unexpected.sentence.startswith("Feature 'carrier' contradicts the schema")
    assert "XX" in unexpected.sentence
    assert report.verdict == "cold_start"


def test_an_anomaly_that_the_config_does_not_name_blocks(statistics_of: StatisticsOf) -> None:
    schema = tfdv.infer_schema(statistics_of(columns()))
    now = statistics_of({name: values for name, values in columns().items() if name != "temp"})
    report = measure_drift(
        now, baselines={}, anomalies=tfdv.validate_statistics(now, schema), options=OPTIONS, feature_set=FEATURES
    )
    assert report.verdict == "block"
    assert [f.measure for f in report.findings if f.against == "schema"] == ["SCHEMA_MISSING_COLUMN"]


def test_a_text_label_is_compared_by_its_classes(drift: Callable[..., DriftReport]) -> None:
    then, now = columns(late=["no"] * 150 + ["yes"] * 50), columns(late=["no"] * 70 + ["yes"] * 130)
    report = drift(now, then)
    assert finding(report, "label_rate", feature="late").value == pytest.approx(0.4)


def test_columns_that_the_model_never_sees_are_not_compared(drift: Callable[..., DriftReport]) -> None:
    report = drift(columns(week=[2] * 200), columns(week=[1] * 200))
    assert "week" not in {finding.feature for finding in report.findings}


def test_statistics_of_several_data_sets_are_refused(statistics_of: StatisticsOf) -> None:
    both = statistics_of(columns())
    both.datasets.append(both.datasets[0])
    with pytest.raises(ValueError, match="Expected 1 dataset; received 2"):
        measure_drift(both, baselines={}, options=OPTIONS, feature_set=FEATURES)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), num_examples=st.integers(10, 60))
def test_measuring_is_deterministic_and_changes_no_input(
    statistics_of: StatisticsOf, seed: int, num_examples: int
) -> None:
    now, then = statistics_of(columns(seed=seed)), statistics_of(columns(num_examples=num_examples))
    anomalies = tfdv.validate_statistics(now, schema_pb2.Schema())
    inputs = [proto.SerializeToString(deterministic=True) for proto in (now, then, anomalies)]
    first, second = (
        measure_drift(now, baselines={"reference": then}, anomalies=anomalies, options=OPTIONS, feature_set=FEATURES)
        for _ in range(2)
    )
    assert first == second
    assert [proto.SerializeToString(deterministic=True) for proto in (now, then, anomalies)] == inputs


def test_measures_that_an_override_leaves_out_keep_the_default(drift: Callable[..., DriftReport]) -> None:
    default = FeatureDrift(missing_rate=Bounds(warn=0.07))
    options = DriftOptions(default=default, features={"temp": FeatureDriftOverride(distance=Bounds(warn=0.5))})
    report = drift(columns(), columns(), options=options)
    assert finding(report, "missing_rate", feature="temp").threshold == 0.07
