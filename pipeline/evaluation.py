"""The gate of a config in TFMA's words. Reading its results is `monitoring.gate`'s."""

import tensorflow_model_analysis as tfma

from pipeline.config import GateOptions, MetricBound
from schemas.features import LabelSpec
from schemas.model_layout import PROBABILITIES_OUTPUT, PROBABILITY_OUTPUT, SERVING_SIGNATURE, VALUE_OUTPUT

OUTPUTS = {"binary": PROBABILITY_OUTPUT, "multiclass": PROBABILITIES_OUTPUT, "regression": VALUE_OUTPUT}
# TFMA computes these itself; a metric outside its own set would come from tf_keras and run far slower.
CLASS_NAMES = {
    "auc": "AUC",
    "binary_crossentropy": "BinaryCrossEntropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "calibration": "Calibration",
    "accuracy": "BinaryAccuracy",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
    "mean_squared_error": "MeanSquaredError",
    "example_count": "ExampleCount",
}
HIGHER_IS_BETTER = frozenset({"auc", "accuracy", "sparse_categorical_accuracy"})
METRICS = {
    "binary": ("auc", "binary_crossentropy", "calibration", "example_count"),
    "multiclass": ("sparse_categorical_accuracy", "sparse_categorical_crossentropy", "example_count"),
    "regression": ("mean_squared_error", "calibration", "example_count"),
}


def evaluation_config(label: LabelSpec, gate: GateOptions, *, has_champion: bool) -> tfma.EvalConfig:
    """Return TFMA's config: the task's metrics overall and by slice, absolute bounds, change bounds for a champion."""
    model = tfma.ModelSpec(signature_name=SERVING_SIGNATURE, label_key=label.name, prediction_key=OUTPUTS[label.task])
    names = dict.fromkeys((*METRICS[label.task], *(bound.metric for bound in gate.bounds)))
    metrics = [_metric(name, [b for b in gate.bounds if b.metric == name], has_champion=has_champion) for name in names]
    models = [model]
    if has_champion:
        model.name = tfma.CANDIDATE_KEY
        models.append(tfma.ModelSpec(name=tfma.BASELINE_KEY, is_baseline=True))
        models[1].MergeFrom(
            tfma.ModelSpec(
                signature_name=model.signature_name, label_key=model.label_key, prediction_key=model.prediction_key
            )
        )
    slices = dict.fromkeys(((), *gate.slices, *(bound.slices for bound in gate.bounds)))
    return tfma.EvalConfig(
        model_specs=models,
        slicing_specs=[tfma.SlicingSpec(feature_keys=list(columns)) for columns in slices],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


def _metric(name: str, bounds: list[MetricBound], *, has_champion: bool) -> tfma.MetricConfig:
    config = tfma.MetricConfig(class_name=CLASS_NAMES[name])
    for bound in bounds:
        threshold = _threshold(bound, has_champion=has_champion)
        if bound.slices:
            slicing = tfma.SlicingSpec(feature_keys=list(bound.slices))
            config.per_slice_thresholds.append(
                tfma.PerSliceMetricThreshold(slicing_specs=[slicing], threshold=threshold)
            )
        else:
            config.threshold.CopyFrom(threshold)
    return config


def _threshold(bound: MetricBound, *, has_champion: bool) -> tfma.MetricThreshold:
    threshold = tfma.MetricThreshold()
    if bound.minimum is not None:
        threshold.value_threshold.lower_bound.value = bound.minimum
    if bound.maximum is not None:
        threshold.value_threshold.upper_bound.value = bound.maximum
    if bound.max_loss is not None and has_champion:
        is_higher_better = bound.metric in HIGHER_IS_BETTER
        threshold.change_threshold.absolute.value = -bound.max_loss if is_higher_better else bound.max_loss
        threshold.change_threshold.direction = (
            tfma.MetricDirection.HIGHER_IS_BETTER if is_higher_better else tfma.MetricDirection.LOWER_IS_BETTER
        )
    return threshold
