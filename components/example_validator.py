"""Hold a span's statistics against the reviewed schema."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema

from components.import_schema_gen import SCHEMA_FILE
from core.files import write_bytes_atomically
from monitoring.validation import load_statistics, validate_statistics
from schemas.loader import load_schema

# Where TFX's components look in a split of statistics and of anomalies.
STATISTICS_FILE = "Split-{split}/FeatureStats.pb"
ANOMALIES_FILE = "Split-{split}/SchemaDiff.pb"
# TFX's property: by split 1 where nothing was found, else 0.
_BLESSED = "blessed"


@component
def ExampleValidator(
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    anomalies: OutputArtifact[ExampleAnomalies],
) -> None:
    """Write what contradicts the schema in each split, as TFX's component does, which imports all of Beam for it.

    Args:
        statistics: Statistics of the span.
        schema: What they are held against.
        anomalies: Artifact to fill.
    """
    reviewed = load_schema(Path(schema.uri) / SCHEMA_FILE)
    blessed = {}
    for split in artifact_utils.decode_split_names(statistics.split_names):
        found = validate_statistics(
            load_statistics(Path(statistics.uri) / STATISTICS_FILE.format(split=split)), reviewed
        )
        write_bytes_atomically(Path(anomalies.uri) / ANOMALIES_FILE.format(split=split), found.SerializeToString())
        blessed[split] = int(not found.anomaly_info and not found.HasField("dataset_anomaly_info"))
    anomalies.split_names = statistics.split_names
    anomalies.span = statistics.span
    anomalies.set_json_value_custom_property(_BLESSED, blessed)
