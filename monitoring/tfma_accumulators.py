"""Fills the accumulators of TFMA's combiners from arrays: fed example by example they take 0.15 ms for each, and slice.

In here: one function per combiner. What is made of an accumulator is TFMA's own code. Not in here: slices, validation.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.metrics import example_metrics

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[Any]
_Filler = Callable[[Any, Floats, Scores], Any]

# The metrics of tf_keras whose state is a sum and a count, by class name: TFMA's name of what is summed.
_KERAS_MEANS = {
    "SparseCategoricalAccuracy": "sparse_categorical_accuracy",
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
}
_KERAS_DEFAULTS = (None, False, -1)  # from_logits, ignore_class and axis, in any order


class NoArrayPath(Exception):  # noqa: N818 - no error: Beam computes it then
    """TFMA must compute something itself, on Beam. The message says what, and why."""


def output_of(computation: Any, labels: Floats, scores: Scores) -> dict[Any, Any]:
    """Return what TFMA's combiner makes of these examples, by metric key.

    Args:
        computation: A `MetricComputation` of TFMA.
        labels: Shape `(num_examples,)`.
        scores: Shape `(num_examples, num_outputs)`, in the type that the model gives them.

    Raises:
        NoArrayPath: nothing here fills this combiner's accumulator, or not with these values.
    """
    combiner = computation.combiner
    fill = _FILLERS.get(type(combiner).__name__)
    plain = not any(_is_special(key) for key in computation.keys)
    if fill is None or not plain:
        names = ", ".join(key.name for key in computation.keys)
        raise NoArrayPath(
            f"Metric {names} needs TFMA's {type(combiner).__name__}{'' if plain else ' per class, weighted or top-k'}, "
            f"which is filled from arrays only by {sorted(_FILLERS)}, plain."
        )
    output: dict[Any, Any] = combiner.extract_output(fill(combiner, labels, scores))
    return output


def _is_special(key: Any) -> bool:
    """Return whether a metric key asks for a class, an average over classes, an output's name or example weights."""
    return bool(key.sub_key or key.aggregation_type or key.output_name or key.example_weighted)


def _histogram(combiner: Any, labels: Floats, scores: Scores) -> dict[int, Any]:
    from tensorflow_model_analysis.metrics.calibration_histogram import Bucket

    values = _single_output(combiner, scores).astype(np.float64)
    if not (combiner._prediction_based_bucketing and np.isfinite(values).all()):
        raise NoArrayPath("A histogram of labels, or of scores that are not finite, is TFMA's.")
    if combiner._fractional_labels and not np.all((labels >= 0) & (labels <= 1)):
        raise NoArrayPath("A label is outside [0, 1], which TFMA refuses.")
    # TFMA's arithmetic in its order, so that no score on an edge falls into the other bucket.
    edges = (values - combiner._left) / combiner._range * combiner._num_buckets + 1
    index = np.clip(edges, 0, combiner._num_buckets + 1).astype(np.int64)
    found, bucket_of = np.unique(index, return_inverse=True)
    sums = [np.bincount(bucket_of, weights) for weights in (labels, values, np.ones(len(labels)))]
    return {
        int(bucket): Bucket(int(bucket), *map(float, of_bucket))
        for bucket, *of_bucket in zip(found, *sums, strict=True)
    }


def _confusion_matrices(combiner: Any, labels: Floats, scores: Scores) -> Any:
    """Give TFMA one positive and one negative example for each interval between thresholds, with all the weight."""
    matrices = combiner._binary_confusion_matrices
    if not combiner._enable_fractional_labels or combiner._example_id_key is not None:
        raise NoArrayPath("A confusion matrix with sampled examples or thresholds for labels is TFMA's.")
    values = _single_output(combiner, scores).astype(np.float64)
    if np.isnan(values).any() or not np.all((labels >= 0) & (labels <= 1)):
        raise NoArrayPath("A score is not a number, or a label is outside [0, 1].")
    thresholds = np.sort(np.asarray(matrices._thresholds, np.float64))
    interval = np.searchsorted(thresholds, values, "left")  # thresholds[interval - 1] < value <= thresholds[interval]
    weights = [np.bincount(interval, of_class, len(thresholds) + 1) for of_class in (labels, 1 - labels)]
    stand_ins = [*thresholds.tolist(), np.inf]
    return matrices.add_input(
        matrices.create_accumulator(),
        [1.0] * len(stand_ins) + [0.0] * len(stand_ins),
        stand_ins * 2,
        np.concatenate(weights).tolist(),
        None,
    )


def _binary_crossentropy(combiner: Any, labels: Floats, scores: Scores) -> Any:
    values = _single_output(combiner, scores)
    accumulator = combiner.create_accumulator()
    with np.errstate(divide="ignore", invalid="ignore"):  # TFMA does not clip a certain score either
        accumulator.total_cross_entropy = combiner._cross_entropy(labels, values) * len(labels)
    accumulator.total_example_weights = float(len(labels))
    return accumulator


def _totals(combiner: Any, labels: Floats, scores: Scores) -> Any:
    accumulator = combiner.create_accumulator()
    accumulator.total_weighted_labels = float(labels.sum())
    accumulator.total_weighted_predictions = float(_single_output(combiner, scores).sum(dtype=np.float64))
    accumulator.total_weighted_examples = float(len(labels))
    return accumulator


def _regression_error(metric: str) -> _Filler:
    def fill(combiner: Any, labels: Floats, scores: Scores) -> Any:
        errors = example_metrics("regression", labels, _single_output(combiner, scores))[metric]
        known = errors[~np.isnan(errors)]  # TFMA leaves the others out
        accumulator = combiner.create_accumulator()
        accumulator.total_regression_error = float(known.sum())
        accumulator.total_example_weights = float(len(known))
        return accumulator

    return fill


def _example_count(combiner: Any, labels: Floats, scores: Scores) -> float:
    return float(len(labels))


def _keras_means(combiner: Any, labels: Floats, scores: Scores) -> Any:
    (configs,) = combiner._metric_configs
    if any(combiner._loss_configs) or not all(map(_is_keras_mean, configs)):
        raise NoArrayPath(f"A metric among {[config['class_name'] for config in configs]} is computed by tf_keras.")
    if not np.isfinite(scores).all() or np.any(labels >= scores.shape[1]):
        raise NoArrayPath("A score is not finite, or a label is no class of the model's.")
    combiner.setup()
    accumulator = combiner.create_accumulator()
    values = example_metrics("multiclass", labels, scores)
    for number, config in enumerate(configs):
        total = values[_KERAS_MEANS[config["class_name"]]].sum()
        accumulator.add_weights(0, number, [np.float32(total), np.float32(len(labels))])
    return accumulator


def _is_keras_mean(config: Mapping[str, Any]) -> bool:
    options = {key: value for key, value in config["config"].items() if key not in ("name", "dtype")}
    return config["class_name"] in _KERAS_MEANS and all(value in _KERAS_DEFAULTS for value in options.values())


def _single_output(combiner: Any, scores: Scores) -> Scores:
    if scores.shape[1] != 1:
        raise NoArrayPath(f"{type(combiner).__name__} is filled from one output; the model has {scores.shape[1]}.")
    single: Scores = scores[:, 0]
    return single


_FILLERS: Mapping[str, _Filler] = {
    "_BinaryConfusionMatrixCombiner": _confusion_matrices,
    "_BinaryCrossEntropyCombiner": _binary_crossentropy,
    "_CalibrationHistogramCombiner": _histogram,
    "_CompilableMetricsCombiner": _keras_means,
    "_ExampleCountCombiner": _example_count,
    "_MeanAbsoluteErrorCombiner": _regression_error("mean_absolute_error"),
    "_MeanSquaredErrorCombiner": _regression_error("mean_squared_error"),
    "_WeightedLabelsPredictionsExamplesCombiner": _totals,
}
