"""All that is measured about a span before anything trains on it, as findings. What the run then does is not here."""

from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2

from monitoring.bounds import plain_finding, worst
from monitoring.comparison import BASELINE_WORDS, Comparison
from monitoring.summaries import FeatureSummary, SpanSummary, summarise
from schemas.drift import DriftOptions
from schemas.features import FeatureSet
from schemas.verdicts import DriftReport, Finding, Verdict

SCHEMA = "schema"
CONFIG = "config"


def measure_drift(
    current: Any,
    *,
    baselines: Mapping[str, Any],
    anomalies: Any | None = None,
    options: DriftOptions,
    feature_set: FeatureSet,
) -> DriftReport:
    """Compare a span with its baselines, its schema and its bounds, and return every finding, also those that pass.

    Only the features and the label of `feature_set` are compared: other columns never reach the model.

    Args:
        current: `DatasetFeatureStatisticsList` of the span's train split.
        baselines: The same under the keys `previous` (the span before) and `reference` (what the champion was trained
            on). A key that is absent makes one finding that says so, and passes.
        anomalies: `Anomalies` that ExampleValidator wrote for this split, or None to leave the schema out.
        options: Bounds per measure and verdicts per schema anomaly.
        feature_set: The features to compare, and the label.
    """
    span = summarise(current)
    findings = [*_schema_findings(anomalies, options), _example_count_finding(span, options)]
    if span.num_examples:
        findings.append(_label_finding(span, feature_set.label.name))
        findings += _finite_findings(span, (*feature_set.features, feature_set.label.name))
        for against, words in BASELINE_WORDS.items():
            baseline = baselines.get(against)
            if baseline is None or not summarise(baseline).num_examples:
                sentence = f"There are no statistics of {words} to compare with."
                findings.append(plain_finding(sentence, Verdict.PASS, measure="comparison", against=against))
            else:
                comparison = Comparison.of(current, baseline, against, options=options, feature_set=feature_set)
                findings += comparison.findings()
    return DriftReport(verdict=worst(findings), findings=tuple(findings))


def _schema_findings(anomalies: Any | None, options: DriftOptions) -> Iterator[Finding]:
    if anomalies is None:
        return
    for feature, info in ((None, anomalies.dataset_anomaly_info), *sorted(anomalies.anomaly_info.items())):
        for reason in info.reason:
            word = anomalies_pb2.AnomalyInfo.Type.Name(reason.type)
            subject = "The span" if feature is None else f"Feature {feature!r}"
            yield plain_finding(
                f"{subject} contradicts the schema ({word}): {reason.description or reason.short_description}",
                Verdict[options.anomalies.get(word, options.anomaly_default).upper()],
                measure=word,
                against=SCHEMA,
                feature=feature,
            )


def _example_count_finding(span: SpanSummary, options: DriftOptions) -> Finding:
    return plain_finding(
        f"The train split has {span.num_examples} examples; at least {options.min_examples} are needed.",
        Verdict.PASS if span.num_examples >= options.min_examples else Verdict.BLOCK,
        measure="num_examples",
        against=CONFIG,
        value=span.num_examples,
        threshold=options.min_examples,
    )


def _label_finding(span: SpanSummary, label: str) -> Finding:
    feature = span.features.get(label)
    if feature is None:
        verdict, sentence = Verdict.BLOCK, f"No example has a value of label {label!r}."
    elif feature.is_constant:
        verdict, sentence = Verdict.BLOCK, f"All examples have one value of label {label!r}: nothing can be learned."
    else:
        verdict, sentence = Verdict.PASS, f"Label {label!r} has more than one value."
    return plain_finding(sentence, verdict, measure="label_values", against=CONFIG, feature=label)


def _finite_findings(span: SpanSummary, names: tuple[str, ...]) -> Iterator[Finding]:
    for name in names:
        feature = span.features.get(name)
        if feature is not None and not feature.is_categorical:
            yield _finite_finding(name, feature)


def _finite_finding(name: str, feature: FeatureSummary) -> Finding:
    share = feature.num_nan / feature.num_values
    if feature.is_finite:
        sentence = f"All values of {name!r} are finite numbers."
    elif feature.has_infinity:
        sentence = f"Some values of {name!r} are infinite, and {share:.2%} are NaN."
    else:
        sentence = f"{share:.2%} of the values of {name!r} are NaN; a value that is unknown must be left out."
    verdict = Verdict.PASS if feature.is_finite else Verdict.BLOCK
    return plain_finding(sentence, verdict, measure="non_finite", against=CONFIG, feature=name, value=share)
