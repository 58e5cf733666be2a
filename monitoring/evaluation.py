"""What TFMA measured of a candidate and validated, read from a `ModelEvaluation`. What follows is `gate.py`'s."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.slicer import slicer_lib

from core.errors import DataError
from schemas.gate import OVERALL

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
    result = _load_result(folder)
    has_bounds = tfma.metrics.metric_thresholds_from_metrics_specs(
        result.config.metrics_specs, eval_config=result.config
    )
    validation = tfma.load_validation_result(str(folder)) if has_bounds else None
    return Evaluation(
        metrics={tuple(slice_key): _scalars(outputs) for slice_key, outputs in result.slicing_metrics},
        is_valid=None if validation is None else bool(validation.validation_ok),
        failures=frozenset(
            (slicer_lib.deserialize_slice_key(by_slice.slice_key), failure.metric_key.name)
            for by_slice in (() if validation is None else validation.metric_validations_per_slice)
            for failure in by_slice.failures
        ),
        missing_slices=tuple(map(_spec_words, () if validation is None else validation.missing_slices)),
    )


def slice_words(slice_key: SliceKey) -> str:
    """Return a slice in words.

    Example:
        >>> slice_words((("carrier", "AA"), ("month", 3))), slice_words(())
        ('carrier=AA, month=3', 'overall')
    """
    return ", ".join(f"{column}={value}" for column, value in slice_key) or OVERALL


def _load_result(folder: Path) -> Any:
    try:
        result = tfma.load_eval_result(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{_no_evaluation(folder)} ({error})") from error
    if result.config is None:
        raise DataError(_no_evaluation(folder))
    return result


def _no_evaluation(folder: Path) -> str:
    return (
        f"{str(folder)!r} holds no evaluation. Expected the files that TFX's Evaluator writes; received a folder "
        "without a readable eval_config.json. Pass the uri of a ModelEvaluation artifact."
    )


def _scalars(outputs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float]:
    """Return the numbers among a slice's metrics, which TFMA has by output, class and name."""
    return {
        name: value["doubleValue"]
        for by_class in outputs.values()
        for by_name in by_class.values()
        for name, value in by_name.items()
        if "doubleValue" in value
    }


def _spec_words(spec: Any) -> str:
    values = [f"{column}={spec.feature_values[column]}" for column in sorted(spec.feature_values)]
    return ", ".join([*values, *(f"{column}=?" for column in sorted(spec.feature_keys))]) or OVERALL
