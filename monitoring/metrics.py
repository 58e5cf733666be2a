"""Metrics of predictions, by TFMA's names and as TFMA and Keras define them, from arrays in memory.

In here: numbers. Not in here: their noise, and what is asked of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.gate import TASK_METRICS

Floats = npt.NDArray[np.float64]
_ExampleMetric = Callable[[Floats, Floats], Floats]

# Keras' backend epsilon: probabilities are clipped to [EPSILON, 1 - EPSILON] before a logarithm.
EPSILON = 1e-7
_POSITIVE_THRESHOLD = 0.5  # Keras' BinaryAccuracy: positive if the score is greater


def metrics_of(task: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, float]:
    """Return all metrics of the task that are defined on these examples.

    Undefined, and absent, are: the AUC of a single class, calibration where the labels' mean is 0, and all but the
    count where there is no example or a score is not finite.

    Args:
        task: `binary`, `multiclass` or `regression`.
        labels: Shape `(num_examples,)`: 0 or 1, the index of a class, or a number.
        scores: Shape `(num_examples,)` or `(num_examples, 1)`: a probability or a value; for multiclass
            `(num_examples, num_classes)`: a probability per class.

    Returns:
        Values by the names in `schemas.gate.TASK_METRICS`.

    Raises:
        ValueError: task or shapes are none of these.

    Example:
        >>> metrics_of("regression", [1.0, 3.0], [2.0, 3.0])
        {'mean_squared_error': 0.5, 'mean_absolute_error': 0.5, 'calibration': 1.25, 'example_count': 2.0}
    """
    values = example_metrics(task, labels, scores)
    label_array, score_array = _aligned(task, labels, scores)
    found = {"example_count": float(len(label_array))}
    if len(label_array) and np.isfinite(score_array).all():
        found |= {name: float(value.mean()) for name, value in values.items()}
        if "calibration" in TASK_METRICS[task] and label_array.mean() != 0:
            found["calibration"] = float(score_array.mean() / label_array.mean())
        if "auc" in TASK_METRICS[task] and len(np.unique(label_array)) > 1:
            found["auc"] = _auc(label_array, score_array)
    return {name: found[name] for name in TASK_METRICS[task] if name in found}


def example_metrics(task: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, Floats]:
    """Return, for each metric of the task that is a mean over examples, what every example adds to the mean.

    Args:
        task: As `metrics_of`.
        labels: As `metrics_of`.
        scores: As `metrics_of`.

    Returns:
        Arrays of shape `(num_examples,)` by metric; AUC, calibration and the count are no such means.

    Raises:
        ValueError: as `metrics_of`.

    Example:
        >>> example_metrics("binary", [0, 1], [0.5, 0.75])["accuracy"].tolist()
        [1.0, 1.0]
    """
    aligned = _aligned(task, labels, scores)
    return {name: function(*aligned) for name, function in _EXAMPLE_METRICS[task].items()}


def _binary_crossentropy(labels: Floats, scores: Floats) -> Floats:
    clipped = np.clip(scores, EPSILON, 1 - EPSILON)
    loss: Floats = -(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped))
    return loss


def _binary_accuracy(labels: Floats, scores: Floats) -> Floats:
    return np.equal(scores > _POSITIVE_THRESHOLD, labels > _POSITIVE_THRESHOLD).astype(np.float64)


def _sparse_categorical_crossentropy(labels: Floats, scores: Floats) -> Floats:
    # Keras clips first and normalises then, in a softmax over the logarithms.
    clipped = np.clip(scores, EPSILON, 1 - EPSILON)
    loss: Floats = np.log(clipped.sum(axis=1)) - np.log(clipped[np.arange(len(labels)), labels.astype(np.int64)])
    return loss


def _sparse_categorical_accuracy(labels: Floats, scores: Floats) -> Floats:
    return np.equal(scores.argmax(axis=1), labels).astype(np.float64)


def _squared_error(labels: Floats, scores: Floats) -> Floats:
    error: Floats = np.square(scores - labels)
    return error


def _absolute_error(labels: Floats, scores: Floats) -> Floats:
    error: Floats = np.abs(scores - labels)
    return error


_EXAMPLE_METRICS: Mapping[str, Mapping[str, _ExampleMetric]] = {
    "binary": {
        "binary_crossentropy": _binary_crossentropy,
        "accuracy": _binary_accuracy,
        "mean_squared_error": _squared_error,
    },
    "multiclass": {
        "sparse_categorical_accuracy": _sparse_categorical_accuracy,
        "sparse_categorical_crossentropy": _sparse_categorical_crossentropy,
    },
    "regression": {"mean_squared_error": _squared_error, "mean_absolute_error": _absolute_error},
}


def _auc(labels: Floats, scores: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    value: Any = roc_auc_score(labels, scores)
    return float(value)


def _aligned(task: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return labels of shape `(num_examples,)` and scores of that shape, or of one column per class for multiclass."""
    if task not in _EXAMPLE_METRICS:
        raise ValueError(f"Unknown task. Expected one of {sorted(_EXAMPLE_METRICS)}; received task={task!r}.")
    label_array = np.asarray(labels, dtype=np.float64)
    score_array = np.asarray(scores, dtype=np.float64)
    if task != "multiclass" and score_array.ndim == 2 and score_array.shape[1] == 1:
        score_array = score_array[:, 0]
    expected_ndim = 2 if task == "multiclass" else 1
    if label_array.ndim != 1 or score_array.ndim != expected_ndim or len(label_array) != len(score_array):
        raise ValueError(
            f"Labels and scores do not fit. Expected labels of shape (n,) and scores with one row per label and, for "
            f"multiclass only, one column per class; received task={task!r}, labels.shape={label_array.shape}, "
            f"scores.shape={score_array.shape}."
        )
    return label_array, score_array
