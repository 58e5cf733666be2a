"""What TFMA measured of a candidate and validated, read from a `ModelEvaluation`. What follows is `gate.py`'s."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2, validation_result_pb2

from core.errors import DataError
from schemas.gate import OVERALL

# TFMA's own loaders would import Beam and all metrics first.
_CONFIG_FILE = "eval_config.json"
_METRICS_FILES = "metrics*.tfrecord"
_VALIDATIONS_FILES = "validations*.tfrecord"

# Columns and their values in an example, as TFMA loads them: text, int or float. () is the overall slice.
SliceKey = tuple[tuple[str, Any], ...]
Metrics = Mapping[SliceKey, Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """What an Evaluator left.

    Attributes:
        metrics: The candidate's metrics by slice and TFMA's name.
        is_valid: Whether every absolute bound holds; None where TFMA was given none.
        failures: Slice and metric of each bound that does not hold.
        missing_slices: Slices, in words, of which a metric is required and that have no example.
    """

    metrics: Metrics
    is_valid: bool | None
    failures: frozenset[tuple[SliceKey, str]]
    missing_slices: tuple[str, ...]


def read_evaluation(folder: Path) -> Evaluation:
    """Return what TFX's Evaluator wrote.

    Args:
        folder: Folder of a `ModelEvaluation` artifact.

    Raises:
        DataError: the folder holds no evaluation.
    """
    config = _read_config(folder)
    validation = validation_result_pb2.ValidationResult()
    for record in _records(folder, _VALIDATIONS_FILES):
        validation.MergeFromString(record)
    slices = [metrics_for_slice_pb2.MetricsForSlice.FromString(record) for record in _records(folder, _METRICS_FILES)]
    return Evaluation(
        metrics={_slice_key(of_slice.slice_key): _candidate_values(config, of_slice) for of_slice in slices},
        is_valid=bool(validation.validation_ok) if has_bounds(config) else None,
        failures=frozenset(
            (_slice_key(by_slice.slice_key), failure.metric_key.name)
            for by_slice in validation.metric_validations_per_slice
            for failure in by_slice.failures
        ),
        missing_slices=tuple(map(_spec_words, validation.missing_slices)),
    )


def has_bounds(config: Any) -> bool:
    """Return whether an `EvalConfig` requires anything, of any metric and slice."""
    return any(threshold.ByteSize() for spec in config.metrics_specs for threshold in _thresholds(spec))


def slice_words(slice_key: SliceKey) -> str:
    """Return a slice in words.

    Example:
        >>> slice_words((("carrier", "AA"), ("month", 3))), slice_words(())
        ('carrier=AA, month=3', 'overall')
    """
    return ", ".join(f"{column}={value}" for column, value in slice_key) or OVERALL


def _read_config(folder: Path) -> Any:
    try:
        text = (folder / _CONFIG_FILE).read_text(encoding="utf-8")
        return json_format.Parse(text, config_pb2.EvalRun(), ignore_unknown_fields=True).eval_config
    except (OSError, json_format.ParseError) as error:
        raise DataError(
            f"{str(folder)!r} holds no evaluation. Expected the files that TFX's Evaluator writes; received a folder "
            f"without a readable {_CONFIG_FILE} ({error}). Pass the uri of a ModelEvaluation artifact."
        ) from error


def _records(folder: Path, pattern: str) -> Iterator[bytes]:
    import tensorflow as tf

    files = [str(file) for file in sorted(folder.glob(pattern))]
    yield from tf.data.TFRecordDataset(files).as_numpy_iterator() if files else ()


def _thresholds(spec: Any) -> Iterator[Any]:
    """Return all thresholds of a `MetricsSpec`; one that is not set is empty."""
    yield from spec.thresholds.values()
    by_slice = [threshold for by_metric in spec.per_slice_thresholds.values() for threshold in by_metric.thresholds]
    for metric in spec.metrics:
        yield metric.threshold
        by_slice.extend(metric.per_slice_thresholds)
    yield from (of_slice.threshold for of_slice in by_slice)


def _slice_key(key: Any) -> SliceKey:
    return tuple((part.column, _value(part)) for part in key.single_slice_keys)


def _value(part: Any) -> Any:
    value = getattr(part, part.WhichOneof("kind"))
    return value.decode() if isinstance(value, bytes) else value


def _candidate_values(config: Any, of_slice: Any) -> dict[str, float]:
    """Return the numbers among the candidate's metrics of a slice, by TFMA's name."""
    baselines = {spec.name for spec in config.model_specs if spec.is_baseline}
    return {
        item.key.name: item.value.double_value.value
        for item in of_slice.metric_keys_and_values
        if item.value.HasField("double_value") and not item.key.is_diff and item.key.model_name not in baselines
    }


def _spec_words(spec: Any) -> str:
    values = [f"{column}={spec.feature_values[column]}" for column in sorted(spec.feature_values)]
    return ", ".join([*values, *(f"{column}=?" for column in sorted(spec.feature_keys))]) or OVERALL
