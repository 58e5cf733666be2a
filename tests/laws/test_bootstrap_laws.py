"""Laws of the paired bootstrap, for any labels and scores."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.bootstrap import MIN_DEFINED_SHARE, paired_difference, resamples, weighted_auc
from monitoring.metrics import metrics_of
from schemas.gate import BootstrapOptions, Difference

METRICS = {
    "auc": "binary",
    "binary_crossentropy": "binary",
    "accuracy": "binary",
    "sparse_categorical_accuracy": "multiclass",
    "sparse_categorical_crossentropy": "multiclass",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
}
OPTIONS = BootstrapOptions(num_replicates=100, min_examples=2)
Scores = tuple[Any, Any, Any]
pytestmark = pytest.mark.parametrize("metric", METRICS)
SEEDS = st.integers(0, 10_000)


def _sample(metric: str, seed: int) -> Scores:
    """Return labels and two models' scores of 20 to 59 examples, often tied."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(20, 60))
    num_classes = 3 if METRICS[metric] == "multiclass" else 2
    first, second = rng.uniform(size=(2, size, num_classes)).round(int(rng.integers(1, 4)))
    if METRICS[metric] != "multiclass":
        first, second = first[:, 0], second[:, 0]
    return rng.integers(0, num_classes, size), first, second


def _difference(metric: str, labels: Any, candidate: Any, champion: Any) -> Difference | None:
    return paired_difference(METRICS[metric], metric, labels, candidate=candidate, champion=champion, options=OPTIONS)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_equal_models_differ_by_exactly_nothing(metric: str, seed: int) -> None:
    labels, scores, _ = _sample(metric, seed)
    found = _difference(metric, labels, scores, scores.copy())
    assert found is not None
    assert (found.value, found.low, found.high, found.min_detectable_effect) == (0, 0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_swapped_models_negate_the_difference(metric: str, seed: int) -> None:
    labels, first, second = _sample(metric, seed)
    forth, back = _difference(metric, labels, first, second), _difference(metric, labels, second, first)
    assert forth is not None
    assert back is not None
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low), abs=1e-12)
    assert back.min_detectable_effect == pytest.approx(forth.min_detectable_effect, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_examples_leaves_the_value(metric: str, seed: int) -> None:
    sample = _sample(metric, seed)
    order = np.random.default_rng(seed).permutation(len(sample[0]))
    found, permuted = _difference(metric, *sample), _difference(metric, *(array[order] for array in sample))
    assert found is not None
    assert permuted is not None
    assert permuted.value == pytest.approx(found.value, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, max_weights=st.integers(1, 1000))
def test_any_chunking_gives_the_same_resamples_and_areas(metric: str, seed: int, max_weights: int) -> None:
    labels, scores, _ = _sample(metric, seed)
    whole = np.concatenate(list(resamples(len(labels), 30, seed=seed)))
    chunks = list(resamples(len(labels), 30, seed=seed, max_weights=max_weights))
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    assert all(chunk.size <= max(max_weights, len(labels)) for chunk in chunks)
    areas = weighted_auc(labels > 0, scores.reshape(len(labels), -1)[:, 0])
    np.testing.assert_array_equal(np.concatenate([areas(chunk) for chunk in chunks]), areas(whole))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_the_interval_is_that_of_metrics_of_drawn_examples(metric: str, seed: int) -> None:
    """The naive bootstrap: draw rows, compute both models' metrics on them, and take quantiles of the differences."""
    labels, first, second = _sample(metric, seed)
    found = _difference(metric, labels, first, second)
    generator = np.random.default_rng(OPTIONS.seed)
    differences = []
    for rows in generator.integers(0, len(labels), (OPTIONS.num_replicates, len(labels))):
        values = [metrics_of(METRICS[metric], labels[rows], scores[rows]) for scores in (first, second)]
        if metric in values[0]:
            differences.append(values[0][metric] - values[1][metric])
    if found is None:
        assert len(differences) < MIN_DEFINED_SHARE * OPTIONS.num_replicates
        return
    low, high = np.quantile(differences, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
