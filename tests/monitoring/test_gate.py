"""The table, of evaluations that TFMA made of two small models or that a test writes out."""

import numpy as np
import pytest

from monitoring.evaluation import Evaluation, read_evaluation
from monitoring.gate import explain_gate
from monitoring.metrics import metrics_of
from monitoring.scored_examples import ScoredExamples
from pipeline.evaluation import evaluation_config
from schemas.features import LabelSpec
from schemas.gate import BackwardTransfer, GateOptions, GateReport, GateRow
from schemas.scores import PrequentialSummary

LABEL = LabelSpec(name="late")
AUC = {"metric": "auc", "minimum": 0.6}
LOSS = {"metric": "binary_crossentropy", "maximum": 1.0}
BY_CARRIER = {"metric": "auc", "minimum": 0.1, "slices": ["carrier"]}
DECAYED = PrequentialSummary(
    metric="auc", latest=0.5, sliding=0.5, faded=0.6, has_decayed=True, sentence="The AUC has decayed."
)
# TFMA converts arrays of one element to numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model")


def options(*bounds, **kwargs) -> GateOptions:
    return GateOptions(slices=(("carrier",),), bounds=bounds, **kwargs)


@pytest.fixture(scope="module")
def measured(evaluations):
    """Return both models' evaluations by name."""
    config = evaluation_config(LABEL, options(AUC, LOSS, BY_CARRIER))
    return {name: read_evaluation(evaluations.evaluate(config, name)) for name in ("good", "poor")}


@pytest.fixture
def explain(evaluations, measured):
    """Return a function that judges one model against the other on the first examples, by default on all."""

    def explain(gate_options, *, candidate="good", num_examples=440):
        champion = "poor" if candidate == "good" else "good"
        carriers = np.array(evaluations.carriers[:num_examples])
        comparison = ScoredExamples(
            task="binary",
            labels=np.array(evaluations.labels[:num_examples]),
            candidate=evaluations.scores(candidate)[:num_examples],
            champion=evaluations.scores(champion)[:num_examples],
            members={("carrier", name): np.flatnonzero(carriers == name) for name in ("AA", "UA", "ZZ")},
        )
        return explain_gate(measured[candidate], options=gate_options, comparison=comparison)

    return explain


def row(report: GateReport, metric: str, slice_words: str = "overall") -> GateRow:
    (found,) = (row for row in report.rows if (row.metric, row.slice) == (metric, slice_words))
    return found


def test_values_bounds_and_differences_are_in_the_table(explain):
    report = explain(options(AUC | {"policy": "superior"}, LOSS, BY_CARRIER))
    assert report.is_blessed
    overall = row(report, "auc")
    assert (overall.lower_bound, overall.upper_bound) == (0.6, None)
    assert overall.change_bound == "better than the champion (90 % interval)"
    # TFMA's AUC is an approximation by 10,000 thresholds.
    assert overall.difference.value == pytest.approx(overall.candidate - overall.champion, abs=1e-4)
    assert overall.difference.num_examples == 440
    assert 0 < overall.difference.low < overall.difference.value < overall.difference.high
    assert report.candidate["auc"] == overall.candidate
    assert set(report.champion) == {"auc", "binary_crossentropy", "calibration", "example_count"}


@pytest.mark.parametrize("slice_words", ["overall", "carrier=AA", "carrier=UA", "carrier=ZZ"])
def test_the_champion_is_measured_as_tfma_measures_it(explain, slice_words):
    """Compare with TFMA's values of the same model, as those of a candidate."""
    as_champion, as_candidate = explain(options(AUC)), explain(options(AUC), candidate="poor")
    for metric in ("auc", "binary_crossentropy", "calibration", "example_count"):
        value = row(as_candidate, metric, slice_words).candidate
        assert row(as_champion, metric, slice_words).champion == pytest.approx(value, abs=1e-4)


def test_a_difference_is_that_of_exact_values(evaluations, explain):
    report = explain(options(AUC))
    candidate, champion = (metrics_of("binary", evaluations.labels, evaluations.scores(m)) for m in ("good", "poor"))
    for metric in ("auc", "binary_crossentropy"):
        found = row(report, metric)
        assert found.champion == report.champion[metric] == champion[metric]
        assert found.difference.value == pytest.approx(candidate[metric] - champion[metric])


def test_the_sentence_prints_difference_interval_and_detectable_effect(explain):
    report = explain(options(AUC | {"policy": "non_inferior", "margin": 0.01}, LOSS, BY_CARRIER))
    found = row(report, "auc")
    assert found.sentence == (
        f"auc (overall) is {found.candidate:.4f}, the champion's {found.champion:.4f}, a difference of "
        f"{found.difference.value:+.4f} (90 % interval {found.difference.low:+.4f} to {found.difference.high:+.4f}; "
        f"{found.difference.min_detectable_effect:.4f} would be detected); required: at least 0.6: passed; not worse "
        "than the champion by more than 0.01 (90 % interval): passed."
    )
    count = row(report, "example_count")
    assert count.sentence == "example_count (overall) is 440, the champion's 440; nothing required."
    assert count.difference is None


@pytest.mark.parametrize(
    ("bound", "candidate", "is_blessed"),
    [
        (AUC | {"policy": "superior"}, "good", True),
        (AUC | {"policy": "superior"}, "poor", False),
        (AUC | {"policy": "non_inferior", "margin": 0.01}, "poor", False),
        (AUC | {"policy": "non_inferior", "margin": 0.5}, "poor", True),
        (LOSS | {"policy": "superior"}, "good", True),
        (LOSS | {"policy": "superior"}, "poor", False),
        (LOSS | {"policy": "non_inferior", "margin": 0.01}, "poor", False),
        (LOSS | {"policy": "non_inferior", "margin": 0.9}, "poor", True),
    ],
)
def test_the_policy_decides(explain, bound, candidate, is_blessed):
    report = explain(options(bound), candidate=candidate)
    assert report.is_blessed is is_blessed
    assert row(report, bound["metric"]).passed is is_blessed
    assert [reason.endswith("(90 % interval): failed.") for reason in report.reasons] == [True] * (not is_blessed)


def test_a_small_slice_is_undecided_and_fails_nothing(explain):
    report = explain(options(AUC, BY_CARRIER | {"policy": "superior"}))
    small, large = row(report, "auc", "carrier=ZZ"), row(report, "auc", "carrier=AA")
    assert (small.passed, small.is_undecided, small.difference) == (True, True, None)
    assert (large.passed, large.is_undecided, large.difference.num_examples) == (True, False, 200)
    assert small.sentence.endswith("too few examples (40 of 200 needed) to tell: decides nothing.")
    assert report.is_blessed


def test_overall_undecided_leaves_the_absolute_bounds_to_decide(explain):
    report = explain(options(AUC | {"policy": "superior"}), candidate="poor", num_examples=57)
    found = row(report, "auc")
    assert report.is_blessed
    assert (found.passed, found.is_undecided) == (True, True)
    assert found.sentence.endswith(
        "required: at least 0.6: passed; better than the champion (90 % interval): "
        "too few examples (57 of 200 needed) to tell: the absolute bounds alone decide."
    )


def test_without_a_champion_the_absolute_bounds_decide(measured):
    report = explain_gate(measured["good"], options=options(AUC | {"policy": "superior"}))
    found = row(report, "auc")
    assert report.is_blessed
    assert report.champion == {}
    assert (found.champion, found.change_bound, found.difference, found.is_undecided) == (None, None, None, False)


def test_a_class_that_the_champion_lacks_is_compared():
    metric, labels = "sparse_categorical_crossentropy", np.arange(300) % 3
    candidate = np.full((300, 3), 0.1) + 0.7 * np.eye(3)[labels]
    champion = np.tile([0.5, 0.5, 0.0], (300, 1))
    comparison = ScoredExamples("multiclass", labels, candidate=candidate, champion=champion)
    values = metrics_of("multiclass", labels, candidate)
    evaluation = Evaluation(metrics={(): values}, is_valid=True, failures=frozenset(), missing_slices=())
    gate_options = options({"metric": metric, "maximum": 1.0, "policy": "superior"})
    report = explain_gate(evaluation, options=gate_options, comparison=comparison)
    assert report.is_blessed
    assert report.champion["example_count"] == 300
    assert row(report, metric).difference.value == pytest.approx(values[metric] - report.champion[metric])


def test_a_score_that_is_no_number_is_never_blessed(evaluations, measured):
    scores = evaluations.scores("good")
    broken = np.where(np.arange(440)[:, None] < 3, np.nan, scores)
    comparison = ScoredExamples("binary", np.array(evaluations.labels), candidate=broken, champion=scores)
    report = explain_gate(measured["good"], options=options(AUC), comparison=comparison)
    assert report.reasons == ("The candidate's score of 3 of 440 examples is not a finite number.",)


@pytest.mark.parametrize(
    ("on_decay", "is_warm", "is_blessed"),
    [("block", True, False), ("block", False, True), ("report", True, True)],
)
def test_decay_blocks_warm_candidates_if_asked(measured, on_decay, is_warm, is_blessed):
    gate_options = options(AUC, prequential={"on_decay": on_decay})
    report = explain_gate(measured["good"], options=gate_options, prequential=DECAYED, is_warm=is_warm)
    assert report.is_blessed is is_blessed
    assert report.prequential == DECAYED
    blocked = ("The AUC has decayed. Until a cold start wins, no warm-started candidate may serve.",)
    assert report.reasons == (() if is_blessed else blocked)


def test_forgetting_is_a_reason(measured):
    transfer = BackwardTransfer(
        metric="auc", candidate=0.5, champion=0.7, difference=None, by_span={}, passed=False, sentence="It forgot."
    )
    report = explain_gate(measured["good"], options=options(AUC), backward_transfer=transfer)
    assert (report.is_blessed, report.reasons, report.backward_transfer) == (False, ("It forgot.",), transfer)


def test_without_any_bound_nothing_is_blessed():
    unbounded = Evaluation(metrics={(): {"auc": 0.9}}, is_valid=None, failures=frozenset(), missing_slices=())
    report = explain_gate(unbounded, options=options(AUC))
    assert report.reasons == ("TFMA was given no bound for any metric: nothing can bless a model.",)


def test_without_any_example_nothing_is_blessed(evaluations):
    config = evaluation_config(LABEL, options(AUC))
    evaluation = read_evaluation(evaluations.evaluate(config, "good", with_examples=False))
    report = explain_gate(evaluation, options=options(AUC))
    assert not report.is_blessed
    assert "No example of the eval split was evaluated" in " ".join(report.reasons)


def test_absolute_bounds_fail_whatever_the_difference(evaluations):
    strict = options(AUC | {"minimum": 0.999, "policy": "superior"}, BY_CARRIER | {"metric": "binary_crossentropy"})
    config = evaluation_config(LABEL, strict)
    for metric in config.metrics_specs[0].metrics:
        for threshold in metric.per_slice_thresholds:
            for spec in threshold.slicing_specs:
                spec.feature_values.update(dict.fromkeys(spec.feature_keys, "XX"))
                spec.ClearField("feature_keys")
    evaluation = read_evaluation(evaluations.evaluate(config, "good"))
    comparison = ScoredExamples("binary", np.array(evaluations.labels), *map(evaluations.scores, ("good", "poor")))
    report = explain_gate(evaluation, options=strict, comparison=comparison)
    broken, missing = report.reasons
    assert not report.is_blessed
    assert broken.endswith("required: at least 0.999: failed; better than the champion (90 % interval): passed.")
    assert missing == "No evaluated example is in slice carrier=XX, of which a metric is required."
