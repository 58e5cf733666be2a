"""The table of what TFMA measured and required, read from an Evaluator's output. TFMA decides; this explains."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.slicer import slicer_lib

from core.errors import DataError
from schemas.gate import OVERALL, GateReport, GateRow

_DIFF_SUFFIX = "_diff"  # TFMA's name for candidate minus baseline
SliceKey = tuple[tuple[str, Any], ...]
Metrics = Mapping[SliceKey, Mapping[str, float]]


def explain_gate(evaluation_folder: Path) -> GateReport:
    """Read the folder of a `ModelEvaluation` artifact and say per slice and metric what was measured and required.

    The verdict fails closed where TFMA's would pass: without thresholds, and without any evaluated example.

    Raises:
        DataError: the folder holds no evaluation.
    """
    config = _load(evaluation_folder)
    candidate_name = next((spec.name for spec in config.model_specs if not spec.is_baseline), "")
    champion_name = next((spec.name for spec in config.model_specs if spec.is_baseline), None)
    candidate = _metrics(evaluation_folder, candidate_name)
    champion = {} if champion_name is None else _metrics(evaluation_folder, champion_name)
    requirements = _requirements(config, candidate_name)
    validation = tfma.load_validation_result(str(evaluation_folder)) if requirements else None
    rows = (*_rows(candidate, champion, requirements, _failures(validation)), *_missing_rows(validation))
    reasons = [row.sentence for row in rows if not row.passed]
    if not requirements:
        reasons.append("The config sets no threshold for any metric: nothing can bless a model.")
    if not candidate.get((), {}):
        reasons.append("No example of the eval split was evaluated: nothing is known about the candidate.")
    if validation is not None and not validation.validation_ok and not reasons:
        reasons.append("TFMA's validation failed without naming a metric.")
    return GateReport(
        is_blessed=not reasons,
        rows=rows,
        candidate=_finite(candidate.get((), {})),
        champion=_finite(champion.get((), {})),
        reasons=tuple(reasons),
    )


@dataclass(frozen=True)
class _Requirement:
    """One threshold of one metric; `slice_spec` None means every slice, as TFMA understands it."""

    metric: str
    slice_spec: Any
    threshold: Any

    def applies_to(self, slice_key: SliceKey) -> bool:
        if self.slice_spec is None:
            return True
        return bool(slicer_lib.SingleSliceSpec(spec=self.slice_spec).is_slice_applicable(slice_key))

    @property
    def is_change(self) -> bool:
        return isinstance(self.threshold, config_pb2.GenericChangeThreshold)


def _load(folder: Path) -> Any:
    try:
        config = tfma.load_eval_result(str(folder), model_name=None).config
    except (OSError, ValueError) as error:
        raise DataError(f"{_no_evaluation(folder)} ({error})") from error
    if config is None:
        raise DataError(_no_evaluation(folder))
    return config


def _no_evaluation(folder: Path) -> str:
    return (
        f"{str(folder)!r} holds no evaluation. Expected the files that TFX's Evaluator writes; received a folder "
        "without a readable eval_config.json. Pass the uri of a ModelEvaluation artifact."
    )


def _metrics(folder: Path, model_name: str) -> Metrics:
    """Return TFMA's scalar metrics of one model by slice, without the differences."""
    result = tfma.load_eval_result(str(folder), model_name=model_name)
    return {
        tuple(slice_key): {
            name: value["doubleValue"]
            for metrics in outputs.values()
            for by_name in metrics.values()
            for name, value in by_name.items()
            if "doubleValue" in value and not name.endswith(_DIFF_SUFFIX)
        }
        for slice_key, outputs in result.slicing_metrics
    }


def _requirements(config: Any, candidate_name: str) -> list[_Requirement]:
    thresholds = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    return [
        _Requirement(key.name, slice_spec, threshold)
        for key, by_slice in thresholds.items()
        if key.model_name == candidate_name
        for slice_spec, threshold in by_slice
    ]


def _failures(validation: Any | None) -> set[tuple[SliceKey, str]]:
    if validation is None:
        return set()
    return {
        (slicer_lib.deserialize_slice_key(by_slice.slice_key), failure.metric_key.name)
        for by_slice in validation.metric_validations_per_slice
        for failure in by_slice.failures
    }


def _rows(
    candidate: Metrics, champion: Metrics, requirements: list[_Requirement], failures: set[tuple[SliceKey, str]]
) -> Iterator[GateRow]:
    for slice_key in sorted(candidate, key=lambda key: (len(key), str(key))):
        required = [requirement for requirement in requirements if requirement.applies_to(slice_key)]
        # A metric that TFMA could not compute still has its row where something is required of it.
        for metric in dict.fromkeys((*sorted(candidate[slice_key]), *(requirement.metric for requirement in required))):
            yield _row(
                _slice_words(slice_key),
                metric,
                values=(candidate[slice_key].get(metric), champion.get(slice_key, {}).get(metric)),
                required=[requirement for requirement in required if requirement.metric == metric],
                passed=(slice_key, metric) not in failures,
            )


def _row(
    slice_words: str,
    metric: str,
    *,
    values: tuple[float | None, float | None],
    required: list[_Requirement],
    passed: bool,
) -> GateRow:
    candidate, champion = (value if value is not None and math.isfinite(value) else None for value in values)
    absolute = [requirement.threshold for requirement in required if not requirement.is_change]
    lower = max((bound.lower_bound.value for bound in absolute if bound.HasField("lower_bound")), default=None)
    upper = min((bound.upper_bound.value for bound in absolute if bound.HasField("upper_bound")), default=None)
    change = " and ".join(_change_words(requirement.threshold) for requirement in required if requirement.is_change)
    fact = f"{metric} ({slice_words}) is {_number(candidate)}"
    if champion is not None:
        fact += f", the champion's {_number(champion)}"
    bounds = [f"at least {lower:g}"] if lower is not None else []
    bounds += [f"at most {upper:g}"] if upper is not None else []
    bounds += [f"a change of {change}"] if change else []
    verdict = f"; required: {', '.join(bounds)}: {'passed' if passed else 'failed'}" if bounds else "; nothing required"
    return GateRow(
        slice=slice_words,
        metric=metric,
        candidate=candidate,
        champion=champion,
        lower_bound=lower,
        upper_bound=upper,
        change_bound=change or None,
        passed=passed,
        sentence=f"{fact}{verdict}.",
    )


def _missing_rows(validation: Any | None) -> Iterator[GateRow]:
    for spec in () if validation is None else validation.missing_slices:
        values = [f"{key}={spec.feature_values[key]}" for key in sorted(spec.feature_values)]
        words = ", ".join([*values, *(f"{key}=?" for key in sorted(spec.feature_keys))]) or OVERALL
        yield GateRow(
            slice=words,
            metric="example_count",
            candidate=None,
            champion=None,
            lower_bound=None,
            upper_bound=None,
            change_bound=None,
            passed=False,
            sentence=f"No evaluated example is in slice {words}, of which a metric is required.",
        )


def _change_words(threshold: Any) -> str:
    side = "at most" if threshold.direction == config_pb2.MetricDirection.LOWER_IS_BETTER else "at least"
    parts = [f"{side} {threshold.absolute.value:+g}"] if threshold.HasField("absolute") else []
    parts += [f"{side} {threshold.relative.value:+.2%}"] if threshold.HasField("relative") else []
    return " and ".join(parts)


def _slice_words(slice_key: SliceKey) -> str:
    return ", ".join(f"{name}={value}" for name, value in slice_key) or OVERALL


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
