"""The same findings as TFDV's own entry point, which imports Beam."""

import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from monitoring.validation import load_statistics, validate_statistics

THEN = {"carrier": ["AA", "UA"] * 20, "delay": [1.0, 2.0] * 20}
NOW = {"carrier": ["AA", "ZZ"] * 20, "delay": [1.0, 9.0] * 20, "extra": [1, 2] * 20}


@pytest.fixture
def schema(statistics_of):
    schema = tfdv.infer_schema(statistics_of(THEN))
    tfdv.get_feature(schema, "carrier").drift_comparator.infinity_norm.threshold = 0.1
    return schema


@pytest.mark.parametrize("has_previous", [False, True], ids=["alone", "against previous"])
@pytest.mark.parametrize("columns", [THEN, NOW], ids=["as before", "changed"])
def test_findings_are_tfdvs(statistics_of, schema, columns, has_previous):
    previous = statistics_of(THEN) if has_previous else None
    found = validate_statistics(statistics_of(columns), schema, previous=previous)
    assert found == tfdv.validate_statistics(statistics_of(columns), schema, previous_statistics=previous)
    assert bool(found.anomaly_info) == (columns is NOW)


def test_several_datasets_are_refused(statistics_of):
    two = statistics_pb2.DatasetFeatureStatisticsList()
    for name in ("north", "south"):
        two.datasets.add(name=name)
    with pytest.raises(ValueError, match=r"one dataset are expected.*datasets=\['north', 'south'\]"):
        validate_statistics(two, schema_pb2.Schema())


def test_statistics_are_read_as_written(statistics_of, tmp_path):
    (tmp_path / "FeatureStats.pb").write_bytes(statistics_of(THEN).SerializeToString())
    assert load_statistics(tmp_path / "FeatureStats.pb") == statistics_of(THEN)
