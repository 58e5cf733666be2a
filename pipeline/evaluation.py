"""The gate of a config in TFMA's words. Reading its results is `monitoring.gate`'s."""

import json

from tensorflow_model_analysis.proto import config_pb2

from schemas.features import LabelSpec
from schemas.gate import GateOptions, MetricBound
from schemas.model_layout import PROBABILITIES_OUTPUT, PROBABILITY_OUTPUT, SERVING_SIGNATURE, VALUE_OUTPUT

OUTPUTS = {"binary": PROBABILITY_OUTPUT, "multiclass": PROBABILITIES_OUTPUT, "regression": VALUE_OUTPUT}
# The sparse_categorical ones come from tf_keras; TFMA computes the others itself.
CLASS_NAMES = {
    "auc": "AUC",
    "binary_crossentropy": "BinaryCrossEntropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "calibration": "Calibration",
    "accuracy": "BinaryAccuracy",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
    "mean_squared_error": "MeanSquaredError",
    "mean_absolute_error": "MeanAbsoluteError",
    "example_count": "ExampleCount",
}
METRICS = {
    "binary": ("auc", "binary_crossentropy", "calibration", "example_count"),
    "multiclass": ("sparse_categorical_accuracy", "sparse_categorical_crossentropy", "example_count"),
    "regression": ("mean_squared_error", "calibration", "example_count"),
}


def evaluation_config(label: LabelSpec, gate: GateOptions) -> config_pb2.EvalConfig:
    """Return TFMA's config: the task's metrics overall and by slice, and absolute bounds.

    The champion is not in it: `Gate` scores both models on the same examples and judges the difference with its noise,
    which TFMA cannot, so a baseline model here would be evaluated twice.
    """
    model = config_pb2.ModelSpec(
        signature_name=SERVING_SIGNATURE, label_key=label.name, prediction_key=OUTPUTS[label.task]
    )
    names = dict.fromkeys((*METRICS[label.task], *(bound.metric for bound in gate.bounds)))
    metrics = [_metric(name, [b for b in gate.bounds if b.metric == name]) for name in names]
    slices = dict.fromkeys(((), *gate.slices, *(bound.slices for bound in gate.bounds)))
    return config_pb2.EvalConfig(
        model_specs=[model],
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=list(columns)) for columns in slices],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )


def _metric(name: str, bounds: list[MetricBound]) -> config_pb2.MetricConfig:
    # Named, since TFMA would call `BinaryAccuracy` binary_accuracy, and no bound would find it.
    config = config_pb2.MetricConfig(class_name=CLASS_NAMES[name], config=json.dumps({"name": name}))
    for bound in bounds:
        if bound.minimum is None and bound.maximum is None:
            continue
        threshold = _threshold(bound)
        # A bound of the whole split must say so: TFMA holds `config.threshold` against every slice.
        slicing = config_pb2.SlicingSpec(feature_keys=list(bound.slices))
        config.per_slice_thresholds.append(
            config_pb2.PerSliceMetricThreshold(slicing_specs=[slicing], threshold=threshold)
        )
    return config


def _threshold(bound: MetricBound) -> config_pb2.MetricThreshold:
    threshold = config_pb2.MetricThreshold()
    if bound.minimum is not None:
        threshold.value_threshold.lower_bound.value = bound.minimum
    if bound.maximum is not None:
        threshold.value_threshold.upper_bound.value = bound.maximum
    return threshold
