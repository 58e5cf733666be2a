"""Intervals against known truths, and the weighted AUC against scikit-learn."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from monitoring.bootstrap import is_non_inferior, is_superior, paired_difference, resamples, weighted_auc
from monitoring.metrics import metrics_of
from schemas.gate import BootstrapOptions, Difference

OPTIONS = BootstrapOptions(num_replicates=200)
NUM_DATASETS = 200


def ranked(rng, num_examples, *, noise):
    """Return labels and two models' scores: the candidate's, and the same with noise of this standard deviation."""
    labels = rng.integers(0, 2, num_examples)
    candidate = labels + rng.normal(size=num_examples)
    return labels, candidate, candidate + noise * rng.normal(size=num_examples)


def auc_of_unit_shift(variance):
    """AUC of normal scores whose mean is 1 higher for positives."""
    return NormalDist().cdf(1 / math.sqrt(2 * variance))


def with_errors(rng, num_examples, *, noise):
    labels, errors = rng.normal(size=num_examples), rng.normal(size=num_examples)
    return labels, labels + errors, labels + errors + noise * rng.normal(size=num_examples)


@pytest.mark.parametrize(
    ("task", "metric", "make", "truth"),
    [
        ("binary", "auc", ranked, auc_of_unit_shift(1) - auc_of_unit_shift(1.25)),
        ("regression", "mean_squared_error", with_errors, -0.25),
    ],
    ids=["auc", "mean_squared_error"],
)
def test_a_90_percent_interval_covers_the_truth_that_often(task, metric, make, truth):
    rng = np.random.default_rng(2013)
    covered = 0
    for seed in range(NUM_DATASETS):
        labels, candidate, champion = make(rng, 250, noise=0.5)
        options = OPTIONS.model_copy(update={"seed": seed})
        found = paired_difference(task, metric, labels, candidate=candidate, champion=champion, options=options)
        covered += found.low <= truth <= found.high
    # The share's standard error is 0.021; percentile intervals of 250 examples are slightly too narrow.
    assert 0.84 <= covered / NUM_DATASETS <= 0.94


def test_an_effect_of_the_detectable_size_is_seen_four_times_in_five():
    rng, size = np.random.default_rng(7), 618
    seen, detectable = 0, []
    for _ in range(NUM_DATASETS):
        # Differences have mean -0.1 and standard deviation 1: (1.645 + 0.842) / sqrt(618) = 0.1. Errors are far from 0.
        champion = 10 + rng.normal(size=size)
        candidate = champion + rng.normal(size=size) - 0.1
        found = paired_difference(
            "regression",
            "mean_absolute_error",
            np.zeros(size),
            candidate=candidate,
            champion=champion,
            options=OPTIONS,
        )
        seen += found.high < 0
        detectable.append(found.min_detectable_effect)
    assert np.mean(detectable) == pytest.approx(0.1, rel=0.05)
    assert 0.72 <= seen / NUM_DATASETS <= 0.88  # the share's standard error is 0.028


@pytest.mark.parametrize("decimals", [8, 1], ids=["distinct", "tied"])
def test_weighted_auc_is_that_of_scikit_learn(decimals):
    rng = np.random.default_rng(3)
    labels, scores, _ = ranked(rng, 300, noise=0)
    scores = scores.round(decimals)
    weights = rng.poisson(1, (5, 300)).astype(np.int32)
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert weighted_auc(labels, scores)(weights) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_examples_leaves_the_interval_up_to_the_noise_of_the_resamples():
    rng = np.random.default_rng(4)
    sample, order = ranked(rng, 1000, noise=0.5), rng.permutation(1000)
    found, permuted = (
        paired_difference("binary", "auc", labels, candidate=first, champion=second, options=BootstrapOptions())
        for labels, first, second in (sample, [array[order] for array in sample])
    )
    assert permuted.value == pytest.approx(found.value, abs=1e-12)
    # 1000 resamples know the end of a 90 % interval to a fifteenth of the standard error, 3 of which are allowed.
    noise = 3 / 15 * found.min_detectable_effect / (1.645 + 0.842)
    assert (permuted.low, permuted.high) == pytest.approx((found.low, found.high), abs=noise)


def test_resamples_have_the_size_of_the_sample_and_their_seed():
    rows = np.concatenate(list(resamples(7, 50, seed=1)))
    assert rows.shape == (50, 7)
    assert (rows.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(rows, np.concatenate(list(resamples(7, 50, seed=1))))
    assert (rows != np.concatenate(list(resamples(7, 50, seed=2)))).any()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_value_is_the_difference_of_the_metrics(task):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 300)
    first, second = rng.uniform(size=(2, 300, 1))
    if task == "multiclass":
        first, second = np.hstack([first, 1 - first]), np.hstack([second, 1 - second])
    values = [metrics_of(task, labels, scores) for scores in (first, second)]
    for metric in set(values[0]) - {"calibration", "example_count"}:
        found = paired_difference(task, metric, labels, candidate=first, champion=second, options=OPTIONS)
        assert found.value == pytest.approx(values[0][metric] - values[1][metric], abs=1e-12)
        assert found.low < found.value < found.high
        assert found.num_examples == 300


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (np.arange(199) % 2, np.ones(199)),
        (np.ones(300), np.ones(300)),
        (np.r_[np.ones(3), np.zeros(297)], np.ones(300)),
        (np.arange(300) % 2, np.r_[np.nan, np.ones(299)]),
    ],
    ids=["too-few", "one-class", "three-of-a-class", "not-a-number"],
)
def test_what_cannot_be_told_is_none(labels, scores):
    for candidate, champion in ((scores, np.zeros(len(scores))), (np.zeros(len(scores)), scores)):
        assert (
            paired_difference("binary", "auc", labels, candidate=candidate, champion=champion, options=OPTIONS) is None
        )


def test_a_metric_that_is_no_mean_is_refused():
    with pytest.raises(ValueError, match=r"'calibration' has no paired difference.*received task='binary'"):
        paired_difference(
            "binary", "calibration", np.ones(300), candidate=np.ones(300), champion=np.ones(300), options=OPTIONS
        )


@pytest.mark.parametrize(
    ("low", "high", "metric", "superior", "non_inferior"),
    [
        (0.001, 0.02, "auc", True, True),
        (0.0, 0.0, "auc", False, True),
        (-0.009, 0.02, "auc", False, True),
        (-0.01, 0.02, "auc", False, False),
        (-0.02, -0.001, "mean_squared_error", True, True),
        (-0.02, 0.009, "mean_squared_error", False, True),
        (-0.02, 0.011, "mean_squared_error", False, False),
    ],
    ids=["better", "equal", "not-worse", "on-the-margin", "lower", "not-higher", "maybe-higher"],
)
def test_the_whole_interval_decides(low, high, metric, superior, non_inferior):
    difference = Difference(value=(low + high) / 2, low=low, high=high, min_detectable_effect=0.02, num_examples=500)
    assert is_superior(difference, metric) is superior
    assert is_non_inferior(difference, metric, margin=0.01) is non_inferior
