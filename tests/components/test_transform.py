"""Transform as TFX runs it, in process and on Beam: with a base model the graph grows from the base's analysis."""

import json
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

from components.transform import PREPROCESSING_FN, Transform, TransformExecutor
from core.errors import DataError, TrainingError
from schemas.analysis import Analysis, VocabularyAnalysis
from schemas.features import FEATURE_SET_KEY, FeatureSet
from schemas.model_layout import TRAINING_FOLDER
from schemas.provenance import ENGINE, ENGINE_WHY, EXAMPLES_COUNTS
from trainer.analysis import write_analysis

LABEL = {"name": "late"}
CARRIER = {"carrier": {"kind": "vocabulary", "capacity": 5}}
SCHEMA = """
feature { name: "carrier" type: BYTES presence { min_fraction: 0 } }
feature { name: "late" type: INT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
"""
SPLITS = transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])
OWN_FUNCTION = """
import tensorflow as tf
import tensorflow_transform as tft


def fn(inputs):
    values = tf.sparse.to_dense(inputs["carrier"], "")[:, :1]
    lengths = tf.cast(tf.strings.length(values), tf.float32)
    return {"carrier": tft.bucketize_per_key(tf.squeeze(lengths, 1), tf.squeeze(values, 1), 2)[:, tf.newaxis]}
"""


@pytest.fixture
def transform(make_artifact: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run the executor on flights of carriers C, C and B; return the graph that it wrote."""

    def run(engine: str, base: Any = None, num_examples: int = 3, **feature_set: Any) -> Any:
        examples = make_artifact(standard_artifacts.Examples, f"examples-{engine}")
        examples.split_names = artifact_utils.encode_split_names(["train"])
        examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps({"train": num_examples, "eval": 1}))
        folder = Path(examples.uri) / "Split-train"
        folder.mkdir()
        with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
            for carrier in (b"C", b"C", b"B"):
                example = tf.train.Example()
                example.features.feature["carrier"].bytes_list.value.append(carrier)
                example.features.feature["late"].int64_list.value.append(1)
                writer.write(example.SerializeToString())
        schema = make_artifact(standard_artifacts.Schema, f"schema-{engine}")
        text = text_format.MessageToString(text_format.Parse(SCHEMA, schema_pb2.Schema()))
        (Path(schema.uri) / "schema.pbtxt").write_text(text)
        graph = make_artifact(standard_artifacts.TransformGraph, f"graph-{engine}")
        known = FeatureSet.model_validate({"features": CARRIER, "label": LABEL, **feature_set})
        executor = TransformExecutor(TransformExecutor.Context(["--runner=FnApiRunner"], tmp_dir=str(tmp_path / "tmp")))
        executor.Do(
            {"examples": [examples], "schema": [schema], **({"base_model": [base]} if base else {})},
            {"transform_graph": [graph]},
            {
                "preprocessing_fn": PREPROCESSING_FN,
                "custom_config": json_utils.dumps({FEATURE_SET_KEY: known.model_dump_json()}),
                "splits_config": proto_utils.proto_to_json(SPLITS),
                "disable_statistics": 1,
                "engine": json.dumps({"use": engine}),
            },
        )
        return graph

    return run


def _files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture
def base_model(make_artifact: Callable[..., Any]) -> Any:
    """A model that knows carriers A and B."""
    model = make_artifact(standard_artifacts.Model, "model")
    known = VocabularyAnalysis(tokens=("A", "B"), counts=(1, 1))
    write_analysis(Path(model.uri) / TRAINING_FOLDER, Analysis(features={"carrier": known}))
    return model


@pytest.mark.slow
def test_both_engines_grow_the_same_graph_from_the_base_model(transform: Callable[..., Any], base_model: Any) -> None:
    graphs = [transform(engine, base_model) for engine in ("in_process", "beam")]
    assert [graph.get_string_custom_property(ENGINE) for graph in graphs] == ["in_process", "beam"]
    assert [_files(graph.uri) for graph in graphs] == [_files(graphs[0].uri)] * 2
    for graph in graphs:
        assert list(tft.TFTransformOutput(graph.uri).vocabulary_by_name("carrier")) == [b"A", b"B", b"C"]


def test_small_splits_are_analysed_in_process(transform: Callable[..., Any]) -> None:
    graph = transform("auto")
    assert graph.get_string_custom_property(ENGINE) == "in_process"
    assert not graph.has_custom_property(ENGINE_WHY)
    assert list(tft.TFTransformOutput(graph.uri).vocabulary_by_name("carrier")) == [b"C", b"B"]


@pytest.mark.parametrize("engine", ["in_process", pytest.param("beam", marks=pytest.mark.slow)])
def test_graph_that_did_not_see_every_example_is_refused(transform: Callable[..., Any], engine: str) -> None:
    message = rf"Transform \({engine}\) lost or doubled examples.*Expected {{'train': 4}}; received {{'train': 3}}"
    with pytest.raises(DataError, match=message):
        transform(engine, num_examples=4)


@pytest.mark.slow
def test_what_only_beam_can_analyse_goes_to_beam(
    transform: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_transform.py").write_text(OWN_FUNCTION)
    monkeypatch.syspath_prepend(tmp_path)
    features = {"carrier": {"kind": "hashed", "num_buckets": 2}}
    graph = transform("in_process", features=features, preprocessing_fn="own_transform:fn")
    assert graph.get_string_custom_property(ENGINE) == "beam"
    why = graph.get_string_custom_property(ENGINE_WHY)
    assert why.startswith("preprocessing_fn uses what only Beam can analyse: CacheableCombinePerKeyAccumulate[")


def test_base_model_without_analysis_is_refused(
    transform: Callable[..., Any], make_artifact: Callable[..., Any]
) -> None:
    with pytest.raises(TrainingError, match=r"/Format-Training does not say.*FileNotFoundError.*plan a cold start"):
        transform("in_process", make_artifact(standard_artifacts.Model, "model"))


def test_base_model_is_an_input_of_the_compiled_node(tmp_path: Path) -> None:
    sources = {
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
        "base_model": standard_artifacts.Model,
    }
    importers = {role: Importer(source_uri="/", artifact_type=kind).with_id(role) for role, kind in sources.items()}
    node = Transform(
        **{role: importer.outputs["result"] for role, importer in importers.items()},
        feature_set=FeatureSet.model_validate({"features": CARRIER, "label": LABEL}).model_dump_json(),
        engine="{}",
    )
    compiled = Compiler().compile(
        Pipeline(pipeline_name="p", pipeline_root=str(tmp_path), components=[*importers.values(), node])
    )
    (compiled_node,) = (item.pipeline_node for item in compiled.nodes if item.pipeline_node.node_info.id == "Transform")
    assert set(compiled_node.inputs.inputs) == set(sources)
    assert set(compiled_node.upstream_nodes) == set(sources)
