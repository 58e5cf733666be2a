"""The same files and properties as TFX's component, whose executor imports Beam."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import Executor
from tfx.types import standard_artifacts

from components.example_validator import ExampleValidator
from components.import_schema_gen import ImportSchemaGen
from core.errors import SchemaError

SCHEMA = """
feature { name: "carrier" type: BYTES domain: "carriers" presence { min_fraction: 1.0 } }
string_domain { name: "carriers" value: "AA" value: "UA" }
"""
NORMAL, STRANGE = {"carrier": ["AA", "UA"] * 20}, {"carrier": ["AA", "ZZ"] * 20}


@pytest.fixture
def schema(tmp_path, make_artifact):
    (tmp_path / "reviewed.pbtxt").write_text(SCHEMA)
    artifact = make_artifact(standard_artifacts.Schema, "schema")
    ImportSchemaGen.test_call(schema=artifact, schema_file=str(tmp_path / "reviewed.pbtxt"))
    return artifact


def test_the_schema_is_copied_as_it_is(schema):
    assert (Path(schema.uri) / "schema.pbtxt").read_text() == SCHEMA


def test_what_is_no_schema_is_refused(tmp_path, make_artifact):
    (tmp_path / "reviewed.pbtxt").write_text("features: 3")
    with pytest.raises(SchemaError, match="cannot be parsed"):
        ImportSchemaGen.test_call(
            schema=make_artifact(standard_artifacts.Schema, "schema"), schema_file=str(tmp_path / "reviewed.pbtxt")
        )


@pytest.mark.parametrize(("columns", "is_blessed"), [(NORMAL, 1), (STRANGE, 0)], ids=["normal", "strange"])
def test_findings_are_those_of_tfxs_component(make_artifact, make_statistics, schema, columns, is_blessed):
    statistics = make_statistics("statistics", columns)
    statistics.span = 7
    ours, theirs = (make_artifact(standard_artifacts.ExampleAnomalies, name) for name in ("ours", "theirs"))
    ExampleValidator.test_call(statistics=statistics, schema=schema, anomalies=ours)
    Executor().Do({"statistics": [statistics], "schema": [schema]}, {"anomalies": [theirs]}, {})
    for split in ("train", "eval"):
        files = [Path(each.uri) / f"Split-{split}" / "SchemaDiff.pb" for each in (ours, theirs)]
        found, expected = (anomalies_pb2.Anomalies.FromString(file.read_bytes()) for file in files)
        assert text_format.MessageToString(found) == text_format.MessageToString(expected)
    assert ours.get_json_value_custom_property("blessed") == {"train": is_blessed, "eval": is_blessed}
    assert theirs.get_json_value_custom_property("blessed") == {"train": is_blessed, "eval": is_blessed}
    assert (ours.split_names, ours.span) == (theirs.split_names, theirs.span)
