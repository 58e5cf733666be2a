"""TFMA's evaluation of examples in memory: its metrics, thresholds and slices without its Beam pipeline.

In here: which examples are in which slice, and TFMA's own computations run over arrays in the order in which its
pipeline runs them. Not in here: what a combiner adds up (tfma_accumulators.py), and the files (tfma_files.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.tfma_accumulators import NoArrayPath, output_of

# Columns and their values in an example; () is the overall slice.
SliceKey = tuple[tuple[str, Any], ...]
Rows = npt.NDArray[np.int64]

# What is computed here: the fields of an EvalConfig that may be set. Any other one is for TFMA on Beam.
_KNOWN_FIELDS = {
    "EvalConfig": {"model_specs", "slicing_specs", "metrics_specs"},
    "ModelSpec": {"name", "model_type", "signature_name", "label_key", "prediction_key", "is_baseline"},
    "SlicingSpec": {"feature_keys", "feature_values"},
    "MetricsSpec": {"metrics", "model_names", "example_weights", "thresholds", "per_slice_thresholds"},
    "MetricConfig": {"class_name", "module", "config", "threshold", "per_slice_thresholds"},
}


@dataclass(frozen=True)
class ScoredSplit:
    """What TFMA's pipeline knows of the examples when it begins to compute metrics.

    Attributes:
        labels: Shape `(num_examples,)`: 0 or 1, the index of a class, or a number.
        scores: By name of a `ModelSpec`, the model's output, shape `(num_examples, num_outputs)`.
        columns: By column that is sliced by, each example's values: integers, floats or bytes, none where missing.
    """

    labels: npt.NDArray[np.float64]
    scores: Mapping[str, npt.NDArray[Any]]
    columns: Mapping[str, Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class SplitEvaluation:
    """What TFMA's writers write.

    Attributes:
        metrics: By slice and TFMA's metric key, with differences to the baseline where there is one.
        validation: A `ValidationResult`.
    """

    metrics: Mapping[SliceKey, Mapping[Any, Any]]
    validation: Any


def evaluate_split(config: Any, split: ScoredSplit) -> SplitEvaluation:
    """Return what TFMA's pipeline makes of the examples.

    Args:
        config: An `EvalConfig` with its defaults, as `update_eval_config_with_defaults` returns it.
        split: The examples, scored by each of the config's models.

    Raises:
        NoArrayPath: the config asks for something that only TFMA on Beam computes.
    """
    check_config(config)
    computations = _computations(config.SerializeToString(deterministic=True))
    slices = slice_rows(config, split)
    metrics = {key: _metrics(config, computations, split, slices[key]) for key in slices}
    return SplitEvaluation(metrics, _validation(config, metrics))


def check_config(config: Any) -> None:
    """Refuse a config that asks for more than is computed here.

    Raises:
        NoArrayPath: it does; the message names the field.
    """
    specs = [config, *config.model_specs, *config.slicing_specs, *config.metrics_specs]
    for message in (*specs, *(metric for spec in config.metrics_specs for metric in spec.metrics)):
        name = message.DESCRIPTOR.name
        if asked := {field.name for field, _ in message.ListFields()} - _KNOWN_FIELDS[name]:
            raise NoArrayPath(f"The EvalConfig sets {', '.join(sorted(asked))} of {name}.")
        if name == "MetricsSpec" and message.example_weights.weighted:
            raise NoArrayPath("Metrics are weighted in the EvalConfig.")


def slice_columns(config: Any) -> set[str]:
    """Return the columns that a config slices by."""
    return {column for spec in config.slicing_specs for column in (*spec.feature_keys, *spec.feature_values)}


def slice_rows(config: Any, split: ScoredSplit) -> dict[SliceKey, Rows]:
    """Return the rows of each slice by TFMA's rules; an example with several values is in several slices."""
    rows_of: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    columns = {name: split.columns[name] for name in sorted(slice_columns(config)) if name in split.columns}
    combinations: Iterable[tuple[Any, ...]] = zip(*columns.values(), strict=True)
    for row, values in enumerate(combinations if columns else [()] * len(split.labels)):
        rows_of[tuple(map(tuple, values))].append(row)
    rows_by_slice: defaultdict[SliceKey, list[list[int]]] = defaultdict(list)
    for values, rows in rows_of.items():
        for key in _slice_keys(config, dict(zip(columns, values, strict=True))):
            rows_by_slice[key].append(rows)
    return {key: np.sort(np.concatenate(rows)) for key, rows in rows_by_slice.items()}


def _slice_keys(config: Any, values: Mapping[str, tuple[Any, ...]]) -> set[SliceKey]:
    from tensorflow_model_analysis.slicer import slicer_lib

    specs = [slicer_lib.SingleSliceSpec(spec=spec) for spec in config.slicing_specs] or [slicer_lib.SingleSliceSpec()]
    # Bytes as objects: NumPy's own kind would lose trailing zeros.
    features = {
        name: np.array(of_column, dtype=object if of_column and isinstance(of_column[0], bytes) else None)
        for name, of_column in values.items()
    }
    return set(slicer_lib.get_slices_for_features_dicts([], features, specs))


@dataclass(frozen=True)
class _Computations:
    combined: Sequence[Any]
    derived: Sequence[Any]


@lru_cache(maxsize=4)  # a pipeline has one config; making its computations takes longer than most of them do
def _computations(serialized_config: bytes) -> _Computations:
    """Return TFMA's computations, each once and in its order."""
    from tensorflow_model_analysis.metrics import metric_specs, metric_types
    from tensorflow_model_analysis.proto import config_pb2

    config = config_pb2.EvalConfig.FromString(serialized_config)
    found = dict.fromkeys(metric_specs.to_computations(config.metrics_specs, eval_config=config))
    combined = [item for item in found if isinstance(item, metric_types.MetricComputation)]
    derived = [item for item in found if type(item) is metric_types.DerivedMetricComputation]
    if others := [type(item).__name__ for item in found if item not in combined and item not in derived]:
        raise NoArrayPath(f"The EvalConfig's metrics need {others}.")
    return _Computations(combined, derived)


def _metrics(config: Any, computations: _Computations, split: ScoredSplit, rows: Rows) -> dict[Any, Any]:
    """Return a slice's metrics: what combiners add up, what is derived from that, and differences to the baseline."""
    labels = split.labels[rows]
    of_model = {name: scores[rows] for name, scores in split.scores.items()}
    metrics: dict[Any, Any] = {}
    for computation in computations.combined:
        (model,) = {key.model_name for key in computation.keys}
        metrics |= output_of(computation, labels, of_model[model])
    for computation in computations.derived:
        metrics |= computation.result(metrics)
    public = {key: value for key, value in metrics.items() if not key.name.startswith("_")}
    return public | dict(_differences(config, public))


def _differences(config: Any, metrics: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for baseline in (spec.name for spec in config.model_specs if spec.is_baseline):
        for key, value in metrics.items():
            other = metrics.get(key.make_baseline_key(baseline))
            if key.model_name != baseline and isinstance(value, Number) and other is not None:
                yield key.make_diff_key(), value - other


def _validation(config: Any, metrics: Mapping[SliceKey, Mapping[Any, Any]]) -> Any:
    from tensorflow_model_analysis.evaluators.metrics_validator import validate_metrics
    from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import CombineValidations

    combine = CombineValidations(config)
    result = combine.create_accumulator()
    for of_slice in metrics.items():
        result = combine.add_input(result, validate_metrics(of_slice, config))
    return combine.extract_output(result)
