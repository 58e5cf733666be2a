"""Transform as TFX runs it: with a base model the graph grows from the base's analysis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.transform import Transform, TransformExecutor
from core.errors import TrainingError
from schemas.analysis import Analysis, VocabularyAnalysis
from schemas.features import FEATURE_SET_KEY, FeatureSet
from schemas.model_layout import TRAINING_FOLDER
from trainer.analysis import write_analysis

FEATURE_SET = FeatureSet.model_validate(
    {"features": {"carrier": {"kind": "vocabulary", "capacity": 5}}, "label": {"name": "late"}}
)
SCHEMA = """
feature { name: "carrier" type: BYTES presence { min_fraction: 0 } }
feature { name: "late" type: INT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
"""
SPLITS = transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])
FUNCTION = "transform.preprocessing.preprocessing_fn"
CONFIG = {FEATURE_SET_KEY: FEATURE_SET.model_dump_json()}


@pytest.fixture
def transform(make_artifact: Callable[..., Any], tmp_path: Path) -> Callable[..., list[bytes]]:
    """Run the executor on flights of carriers C, C and B; return the vocabulary that it wrote."""

    def run(base: Any) -> list[bytes]:
        examples = make_artifact(standard_artifacts.Examples, "examples")
        examples.split_names = artifact_utils.encode_split_names(["train"])
        folder = Path(examples.uri) / "Split-train"
        folder.mkdir()
        with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
            for carrier in (b"C", b"C", b"B"):
                example = tf.train.Example()
                example.features.feature["carrier"].bytes_list.value.append(carrier)
                example.features.feature["late"].int64_list.value.append(1)
                writer.write(example.SerializeToString())
        schema = make_artifact(standard_artifacts.Schema, "schema")
        text = text_format.MessageToString(text_format.Parse(SCHEMA, schema_pb2.Schema()))
        (Path(schema.uri) / "schema.pbtxt").write_text(text)
        graph = make_artifact(standard_artifacts.TransformGraph, "graph")
        executor = TransformExecutor(TransformExecutor.Context(["--runner=FnApiRunner"], tmp_dir=str(tmp_path / "tmp")))
        executor.Do(
            {"examples": [examples], "schema": [schema], "base_model": [base]},
            {"transform_graph": [graph]},
            {
                "preprocessing_fn": FUNCTION,
                "custom_config": json_utils.dumps(CONFIG),
                "splits_config": proto_utils.proto_to_json(SPLITS),
                "disable_statistics": 1,
            },
        )
        return list(tft.TFTransformOutput(graph.uri).vocabulary_by_name("carrier"))

    return run


@pytest.mark.slow
def test_graph_grows_from_the_base_model(
    transform: Callable[..., list[bytes]], make_artifact: Callable[..., Any]
) -> None:
    base = make_artifact(standard_artifacts.Model, "model")
    known = VocabularyAnalysis(tokens=("A", "B"), counts=(1, 1))
    write_analysis(Path(base.uri) / TRAINING_FOLDER, Analysis(features={"carrier": known}))
    assert transform(base) == [b"A", b"B", b"C"]


def test_base_model_without_analysis_is_refused(
    transform: Callable[..., list[bytes]], make_artifact: Callable[..., Any]
) -> None:
    with pytest.raises(TrainingError, match=r"/Format-Training does not say.*FileNotFoundError.*plan a cold start"):
        transform(make_artifact(standard_artifacts.Model, "model"))


def test_base_model_is_an_input_of_the_compiled_node(tmp_path: Path) -> None:
    sources = {
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
        "base_model": standard_artifacts.Model,
    }
    importers = {role: Importer(source_uri="/", artifact_type=kind).with_id(role) for role, kind in sources.items()}
    node = Transform(
        **{role: importer.outputs["result"] for role, importer in importers.items()},
        preprocessing_fn=FUNCTION,
        custom_config=CONFIG,
        splits_config=SPLITS,
        materialize=False,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    compiled = Compiler().compile(
        Pipeline(pipeline_name="p", pipeline_root=str(tmp_path), components=[*importers.values(), node])
    )
    (compiled_node,) = (item.pipeline_node for item in compiled.nodes if item.pipeline_node.node_info.id == "Transform")
    assert set(compiled_node.inputs.inputs) == set(sources)
    assert set(compiled_node.upstream_nodes) == set(sources)
