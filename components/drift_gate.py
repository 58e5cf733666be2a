"""Judge a span's statistics before anything is trained on it."""

from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics

from components.example_validator import ANOMALIES_FILE, STATISTICS_FILE
from core.files import write_text_atomically
from monitoring.drift import measure_drift
from monitoring.validation import load_statistics
from schemas.artifacts import DriftVerdict
from schemas.drift import DriftOptions
from schemas.features import FeatureSet
from schemas.provenance import DRIFT_VERDICT
from schemas.verdicts import DRIFT_REPORT_FILE, Verdict


@component
def DriftGate(
    statistics: InputArtifact[ExampleStatistics],
    anomalies: InputArtifact[ExampleAnomalies],
    verdict: OutputArtifact[DriftVerdict],
    feature_set: Parameter[str],
    options: Parameter[str],
    previous_statistics: InputArtifact[ExampleStatistics] = None,
    reference_statistics: InputArtifact[ExampleStatistics] = None,
) -> None:
    """Compare this span with the previous one and with the champion's data; write every finding.

    Args:
        statistics: Statistics of the span; its train split is compared.
        anomalies: What ExampleValidator found, in all splits.
        verdict: Artifact to fill; its int custom property steers the DAG.
        feature_set: `schemas.features.FeatureSet` as JSON.
        options: `schemas.drift.DriftOptions` as JSON.
        previous_statistics: Statistics of the span before.
        reference_statistics: Statistics of the data that the champion's line was cold-started on.
    """
    baselines = {"previous": previous_statistics, "reference": reference_statistics}
    report = measure_drift(
        _load_statistics(statistics),
        baselines={against: _load_statistics(artifact) for against, artifact in baselines.items() if artifact},
        anomalies=_load_anomalies(anomalies),
        options=DriftOptions.model_validate_json(options),
        feature_set=FeatureSet.model_validate_json(feature_set),
    )
    write_text_atomically(Path(verdict.uri) / DRIFT_REPORT_FILE, report.model_dump_json(indent=1))
    verdict.set_int_custom_property(DRIFT_VERDICT, int(Verdict[report.verdict.upper()]))


def _load_statistics(artifact: Any) -> Any:
    return load_statistics(Path(artifact.uri) / STATISTICS_FILE.format(split="train"))


def _load_anomalies(artifact: Any) -> Any:
    """Return the anomalies of the train split, and those that only the eval split has."""
    merged, of_eval = (
        anomalies_pb2.Anomalies.FromString((Path(artifact.uri) / ANOMALIES_FILE.format(split=split)).read_bytes())
        for split in ("train", "eval")
    )
    for feature, info in of_eval.anomaly_info.items():
        if feature not in merged.anomaly_info:
            merged.anomaly_info[feature].CopyFrom(info)
    return merged
