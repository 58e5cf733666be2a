"""A transform graph from a handful of rows, analysed in process, or by real Beam."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from schemas.analysis import Analysis
from schemas.features import FeatureSet
from transform.in_process import InProcessTransform, PreprocessingFn
from transform.preprocessing import preprocessing_fn

Rows = list[dict[str, Any]]
FeatureSpec = dict[str, Any]


@dataclass
class Transformed:
    """Analysed rows: the transformed columns, and the graph to transform others with."""

    columns: dict[str, Any]
    output: tft.TFTransformOutput


@pytest.fixture(scope="session")
def transform_rows(analyse_in_process: Callable[..., Transformed]) -> Callable[..., Transformed]:
    """Analyse rows, on a base or anew, and transform them with what was learned from them."""

    def run(feature_set: FeatureSet, spec: FeatureSpec, rows: Rows, base: Analysis | None = None) -> Transformed:
        config = {"feature_set": feature_set.model_dump_json()}
        if base is not None:
            config["base_analysis"] = base.model_dump_json()
        return analyse_in_process(lambda inputs: preprocessing_fn(inputs, config), spec, rows)

    return run


@pytest.fixture(scope="session")
def analyse_in_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Transformed]:
    """Analyse rows with a `preprocessing_fn`, in this process; they lie in as many files as asked for."""

    def run(function: PreprocessingFn, spec: FeatureSpec, rows: Rows, num_files: int = 2) -> Transformed:
        folder = tmp_path_factory.mktemp("in-process")
        files = [folder / f"{number}.gz" for number in range(num_files)]
        for number, file in enumerate(files):
            with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
                for serialized in _serialized(spec, rows[number::num_files]):
                    writer.write(serialized)
        (folder / "graph").mkdir()
        transform = InProcessTransform(function, schema_utils.schema_from_feature_spec(spec), folder)
        findings = transform.analyse(files)
        assert set(findings.num_read) <= {len(rows)}
        transform.write(findings, folder / "graph")
        return _transformed(folder / "graph", spec, rows)

    return run


@pytest.fixture(scope="session")
def analyse_on_beam(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Transformed]:
    """Analyse rows with a `preprocessing_fn`, as TensorFlow Transform does it on Beam."""

    def run(function: PreprocessingFn, spec: FeatureSpec, rows: Rows) -> Transformed:
        import apache_beam as beam
        import tensorflow_transform.beam as tft_beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
        folder = tmp_path_factory.mktemp("beam")
        # As TFX runs it.
        context = tft_beam.Context(temp_dir=str(folder / "beam"), use_deep_copy_optimization=True)
        with context, beam.Pipeline(runner=FnApiRunner()) as pipeline:
            dataset = ((pipeline | beam.Create(rows)), metadata)
            graph = dataset | tft_beam.AnalyzeDataset(function)
            graph | tft_beam.WriteTransformFn(str(folder / "graph"))
        return _transformed(folder / "graph", spec, rows)

    return run


def _transformed(graph: Path, spec: FeatureSpec, rows: Rows) -> Transformed:
    output = tft.TFTransformOutput(str(graph))
    return Transformed(apply_graph(output, spec, rows), output)


def apply_graph(output: tft.TFTransformOutput, spec: FeatureSpec, rows: Rows) -> dict[str, Any]:
    """Transform rows in process, by way of serialized examples, as the trainer does."""
    parsed = tf.io.parse_example(_serialized(spec, rows), spec)
    columns = output.transform_features_layer()(parsed)
    return {
        name: (tf.sparse.to_dense(tensor) if isinstance(tensor, tf.SparseTensor) else tensor).numpy()
        for name, tensor in columns.items()
    }


def _serialized(spec: FeatureSpec, rows: Rows) -> list[bytes]:
    return [tf.train.Example(features=_features(spec, row)).SerializeToString() for row in rows]


def _features(spec: FeatureSpec, row: dict[str, Any]) -> tf.train.Features:
    features = {}
    for name, value in row.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        dtype = spec[name].dtype
        if dtype == tf.string:
            encoded = [item if isinstance(item, bytes) else item.encode() for item in values]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        elif dtype == tf.int64:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Features(feature=features)
