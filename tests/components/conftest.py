"""Artifacts as TFX hands them to a component: real files below tmp_path, and properties."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils, standard_artifacts

from ingest.span_writer import describe_file, new_version, write_manifest
from schemas.model_layout import SERVING_FOLDER
from schemas.spans import SPLITS, Manifest, span_folder


@pytest.fixture
def spans_root(tmp_path: Path) -> Path:
    return tmp_path / "spans"


@pytest.fixture
def make_span(spans_root: Path) -> Callable[..., Manifest]:
    """Write a span whose examples say where they are from; 6 in train and 3 in eval, in two files each."""

    def make(span: int, version: int = 1) -> Manifest:
        with new_version(span_folder(spans_root, span, version)) as folder:
            files = {split: _write_split(folder, split, f"{span}-{version}") for split in SPLITS}
            manifest = Manifest(span=span, version=version, files=files)
            write_manifest(folder, manifest)
        return manifest

    return make


def _write_split(folder: Path, split: str, prefix: str) -> tuple[Any, ...]:
    described = []
    for number, num_examples in enumerate((4, 2) if split == "train" else (2, 1)):
        path = folder / f"Split-{split}" / f"examples-{number:05d}-of-00002.tfrecord.gz"
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in range(num_examples):
                name = tf.train.BytesList(value=[f"{prefix}-{split}-{number}-{row}".encode()])
                features = tf.train.Features(feature={"name": tf.train.Feature(bytes_list=name)})
                writer.write(tf.train.Example(features=features).SerializeToString())
        described.append(describe_file(folder, path, num_examples))
    return tuple(described)


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Any]:
    """Make an empty artifact of a standard type, with a folder of its own."""

    def make(kind: Any, name: str) -> Any:
        artifact = kind()
        artifact.uri = str(tmp_path / "artifacts" / name)
        Path(artifact.uri).mkdir(parents=True)
        return artifact

    return make


@pytest.fixture
def make_statistics(make_artifact: Callable[..., Any]) -> Callable[..., Any]:
    """Make the ExampleStatistics artifact that StatisticsGen would write for these columns."""

    def make(name: str, columns: dict[str, list[Any]]) -> Any:
        artifact = make_artifact(standard_artifacts.ExampleStatistics, name)
        artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
        statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns))
        for split in SPLITS:
            path = Path(artifact.uri) / f"Split-{split}" / "FeatureStats.pb"
            path.parent.mkdir()
            path.write_bytes(statistics.SerializeToString())
        return artifact

    return make


@pytest.fixture
def make_anomalies(make_artifact: Callable[..., Any]) -> Callable[..., Any]:
    """Make the ExampleAnomalies artifact of a validation that found an unexpected value of the features named."""

    def make(**features_of_split: list[str]) -> Any:
        artifact = make_artifact(standard_artifacts.ExampleAnomalies, "anomalies")
        for split in SPLITS:
            anomalies = anomalies_pb2.Anomalies()
            for feature in features_of_split.get(split, []):
                info = anomalies.anomaly_info[feature]
                kind = anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES
                info.reason.add(type=kind, description=f"Unexpected values of {feature} in {split}.")
            path = Path(artifact.uri) / f"Split-{split}" / "SchemaDiff.pb"
            path.parent.mkdir()
            path.write_bytes(anomalies.SerializeToString())
        return artifact

    return make


@pytest.fixture
def make_model(make_artifact: Callable[..., Any]) -> Callable[[], Any]:
    """Make a Model artifact with what the Pusher needs of a SavedModel: its files."""

    def make() -> Any:
        artifact = make_artifact(standard_artifacts.Model, "model")
        folder = Path(artifact.uri) / SERVING_FOLDER
        (folder / "variables").mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"graph")
        (folder / "variables" / "variables.index").write_bytes(b"weights")
        return artifact

    return make


@pytest.fixture
def make_blessing(make_artifact: Callable[..., Any]) -> Callable[..., Any]:
    """Make a ModelBlessing artifact as TFX's Evaluator marks it."""

    def make(*, is_blessed: bool) -> Any:
        artifact = make_artifact(standard_artifacts.ModelBlessing, "blessing")
        artifact.set_int_custom_property("blessed", int(is_blessed))
        return artifact

    return make
