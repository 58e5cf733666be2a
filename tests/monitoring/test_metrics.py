"""Our metrics against Keras, scikit-learn and what TFMA's documentation says of calibration."""

import math

import keras
import numpy as np
import pytest

from monitoring.metrics import EPSILON, example_metrics, metrics_of
from schemas.gate import TASK_METRICS

RNG = np.random.default_rng(7)
NUM_EXAMPLES = 300
PROBABILITIES = RNG.uniform(size=NUM_EXAMPLES).astype(np.float32)
SAMPLES = {
    "binary": (RNG.uniform(size=NUM_EXAMPLES) < PROBABILITIES, PROBABILITIES[:, None]),
    "multiclass": (RNG.integers(0, 3, NUM_EXAMPLES), RNG.dirichlet([1, 1, 1], NUM_EXAMPLES).astype(np.float32)),
    "regression": (RNG.normal(5, 1, NUM_EXAMPLES), RNG.normal(5, 1, (NUM_EXAMPLES, 1)).astype(np.float32)),
}
KERAS_METRICS = {
    "binary_crossentropy": keras.metrics.BinaryCrossentropy,
    "accuracy": keras.metrics.BinaryAccuracy,
    "mean_squared_error": keras.metrics.MeanSquaredError,
    "mean_absolute_error": keras.metrics.MeanAbsoluteError,
    "sparse_categorical_accuracy": keras.metrics.SparseCategoricalAccuracy,
    "sparse_categorical_crossentropy": keras.metrics.SparseCategoricalCrossentropy,
}
BY_TASK = [(task, name) for task, names in TASK_METRICS.items() for name in names if name in KERAS_METRICS]


@pytest.mark.parametrize("task", SAMPLES)
def test_every_metric_of_the_task_is_there(task):
    assert tuple(metrics_of(task, *SAMPLES[task])) == TASK_METRICS[task]


@pytest.mark.parametrize(("task", "name"), BY_TASK)
def test_value_is_that_of_keras(task, name):
    labels, scores = SAMPLES[task]
    metric = KERAS_METRICS[name]()
    metric.update_state(labels[:, None], scores)
    assert metrics_of(task, labels, scores)[name] == pytest.approx(float(metric.result()), rel=1e-5)


@pytest.mark.parametrize(("task", "name"), BY_TASK)
def test_mean_over_examples_is_the_metric(task, name):
    values = example_metrics(task, *SAMPLES[task])[name]
    assert values.shape == (NUM_EXAMPLES,)
    assert values.mean() == metrics_of(task, *SAMPLES[task])[name]


def test_auc_is_the_share_of_pairs_in_the_right_order():
    labels, scores = SAMPLES["binary"]
    positive, negative = scores[labels, 0], scores[~labels, 0]
    pairs = positive[:, None] - negative[None, :]
    share = np.mean(pairs > 0) + np.mean(pairs == 0) / 2
    assert metrics_of("binary", labels, scores)["auc"] == pytest.approx(share)


def test_calibration_is_mean_score_over_mean_label():
    assert metrics_of("binary", [0, 1, 1, 0], [0.2, 0.4, 0.5, 0.3])["calibration"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("task", "labels", "scores", "name"),
    [
        ("binary", [1, 0], [0.0, 1.0], "binary_crossentropy"),
        ("multiclass", [0, 1], [[0.0, 1.0], [1.0, 0.0]], "sparse_categorical_crossentropy"),
    ],
)
def test_certain_and_wrong_costs_what_keras_clips_to(task, labels, scores, name):
    assert metrics_of(task, labels, scores)[name] == pytest.approx(-math.log(EPSILON), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [([1, 1], {"auc"}), ([0, 0], {"auc", "calibration"}), ([0, 1], set())],
    ids=["ones", "zeros", "both"],
)
def test_undefined_metric_is_absent(labels, undefined):
    assert set(TASK_METRICS["binary"]) - set(metrics_of("binary", labels, [0.3, 0.6])) == undefined


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_score_that_is_not_finite_leaves_only_the_count(bad):
    assert metrics_of("regression", [1.0, 2.0], [1.0, bad]) == {"example_count": 2.0}


def test_no_example_leaves_only_the_count():
    assert metrics_of("multiclass", [], np.zeros((0, 3))) == {"example_count": 0.0}


@pytest.mark.parametrize(
    ("task", "labels", "scores", "message"),
    [
        ("ranking", [1], [1.0], r"Expected one of \['binary', 'multiclass', 'regression'\]; received task='ranking'"),
        ("binary", [1, 0], [0.5], r"labels\.shape=\(2,\), scores\.shape=\(1,\)"),
        ("binary", [1], [[0.5, 0.5]], r"task='binary'.*scores\.shape=\(1, 2\)"),
        ("multiclass", [1], [0.5], r"one column per class.*scores\.shape=\(1,\)"),
        ("binary", [[1]], [0.5], r"labels\.shape=\(1, 1\)"),
    ],
    ids=["task", "length", "columns", "no-columns", "label-column"],
)
def test_what_does_not_fit_is_refused(task, labels, scores, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        metrics_of(task, labels, scores)
