"""Judge a span's statistics before anything is trained on it."""

from pathlib import Path

from tensorflow_data_validation import load_anomalies_binary, load_schema_text, load_stats_binary
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema

from core.files import write_text_atomically
from monitoring.drift import measure_drift
from schemas.artifacts import DriftVerdict
from schemas.drift import DriftOptions
from schemas.provenance import DRIFT_VERDICT
from schemas.verdicts import Verdict

REPORT_NAME = "drift.json"
TRAIN_STATISTICS = "Split-train/FeatureStats.pb"
SPLIT_ANOMALIES = "Split-*/SchemaDiff.pb"


@component
def DriftGate(
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    anomalies: InputArtifact[ExampleAnomalies],
    verdict: OutputArtifact[DriftVerdict],
    label: Parameter[str],
    options: Parameter[str],
    previous_statistics: InputArtifact[ExampleStatistics] = None,  # type: ignore[assignment]  # optional in TFX's way
    reference_statistics: InputArtifact[ExampleStatistics] = None,  # type: ignore[assignment]
) -> None:
    """Compare this span with the previous one and with the champion's data; write every finding.

    Args:
        statistics: Statistics of the span.
        schema: The reviewed schema.
        anomalies: What ExampleValidator found.
        verdict: Artifact to fill; its int custom property steers the DAG.
        label: Column of the label.
        options: `schemas.drift.DriftOptions` as JSON.
        previous_statistics: Statistics of the span before.
        reference_statistics: Statistics of the data that the champion was trained on.
    """
    (schema_file,) = Path(schema.uri).glob("*.pbtxt")
    report = measure_drift(
        load_stats_binary(f"{statistics.uri}/{TRAIN_STATISTICS}"),
        load_schema_text(str(schema_file)),
        label=label,
        anomalies=[load_anomalies_binary(str(file)) for file in sorted(Path(anomalies.uri).glob(SPLIT_ANOMALIES))],
        options=DriftOptions.model_validate_json(options),
        previous=load_stats_binary(f"{previous_statistics.uri}/{TRAIN_STATISTICS}") if previous_statistics else None,
        reference=load_stats_binary(f"{reference_statistics.uri}/{TRAIN_STATISTICS}") if reference_statistics else None,
    )
    write_text_atomically(Path(verdict.uri) / REPORT_NAME, report.model_dump_json(indent=1))
    verdict.set_int_custom_property(DRIFT_VERDICT, int(Verdict[report.verdict.upper()]))
