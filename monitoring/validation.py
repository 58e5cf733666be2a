"""Statistics held against a schema by TFDV's own validation, without what TFDV's Python package imports: all of Beam.

What a finding means for a run is not here.
"""

from pathlib import Path
from typing import Any

from tensorflow_data_validation.pywrap.tensorflow_data_validation_extension import validation
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2


def load_statistics(path: Path) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return the statistics in a file that StatisticsGen wrote."""
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())


def validate_statistics(
    statistics: Any, schema: schema_pb2.Schema, *, previous: Any | None = None
) -> anomalies_pb2.Anomalies:
    """Return what contradicts a schema, and how far statistics lie from previous ones.

    Args:
        statistics: `DatasetFeatureStatisticsList` of one dataset.
        schema: What they are held against.
        previous: What the schema's drift comparators compare them with.

    Raises:
        ValueError: there is another number of datasets than one.

    Source:
        TFDV, `api/validation_api.py`, `validate_statistics_internal`: this call of it with an empty environment, no
        serving statistics, no earlier version, and no options.
    """
    arguments = (
        _dataset(statistics),
        schema.SerializeToString(),
        b"",
        b"" if previous is None else _dataset(previous),
        b"",
        b"",
        b"",
        b"",
    )
    return anomalies_pb2.Anomalies.FromString(validation.ValidateFeatureStatistics(*arguments, False))


def _dataset(statistics: Any) -> bytes:
    if len(statistics.datasets) != 1:
        names = [dataset.name for dataset in statistics.datasets]
        raise ValueError(f"Statistics of one dataset are expected, those of a whole split; received datasets={names}.")
    return bytes(statistics.datasets[0].SerializeToString())
