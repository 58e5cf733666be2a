"""Distances between two sets of statistics, measured by TFDV itself. What a distance means for a run is not here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from monitoring.validation import validate_statistics

L_INFINITY = "l_infinity"
JENSEN_SHANNON = "jensen_shannon"
_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: L_INFINITY,
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: JENSEN_SHANNON,
}


@dataclass(frozen=True)
class Distance:
    """How far apart two distributions of a feature are, in [0, 1], and by which measure."""

    measure: str
    value: float


def measure_distances(
    current: Any, baseline: Any, *, categorical: Iterable[str], numeric: Iterable[str]
) -> dict[str, Distance]:
    """Return the distance per feature between two `DatasetFeatureStatisticsList`, one dataset each.

    Categorical features get the L-infinity norm (largest difference of one value's share), numeric ones the
    Jensen-Shannon divergence (base 2) over TFDV's histograms. A feature that TFDV can't compare, because one side
    has no values, is absent from the result.

    Source:
        TensorFlow Metadata, `anomalies.proto`, message `DriftSkewInfo`: the measurements are reported whether or
        not they exceed the threshold. The threshold here is 0 and its anomalies are not read.
    """
    # A schema of comparators alone: what the reviewed schema says of the features is ExampleValidator's to check.
    schema = schema_pb2.Schema()
    for name in categorical:
        schema.feature.add(name=name, type=schema_pb2.BYTES).drift_comparator.infinity_norm.threshold = 0
    for name in numeric:
        schema.feature.add(name=name, type=schema_pb2.FLOAT).drift_comparator.jensen_shannon_divergence.threshold = 0
    anomalies = validate_statistics(current, schema, previous=baseline)
    return {
        # TFDV's divergence of disjoint distributions can round to a little more than 1.
        ".".join(info.path.step): Distance(_MEASURES[measurement.type], min(measurement.value, 1.0))
        for info in anomalies.drift_skew_info
        for measurement in info.drift_measurements
    }
