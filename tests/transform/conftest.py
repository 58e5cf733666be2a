"""A transform graph from a handful of rows, analysed by real Beam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from schemas.analysis import Analysis
from schemas.features import FeatureSet
from transform.preprocessing import preprocessing_fn

Rows = list[dict[str, Any]]
FeatureSpec = dict[str, Any]


@dataclass
class Transformed:
    """Analysed rows: the transformed columns, and the graph to transform others with."""

    columns: dict[str, Any]
    output: tft.TFTransformOutput


@pytest.fixture(scope="session")
def transform_rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Transformed]:
    """Analyse rows, on a base or anew, and transform them with what was learned from them."""

    def run(feature_set: FeatureSet, spec: FeatureSpec, rows: Rows, base: Analysis | None = None) -> Transformed:
        metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
        config = {"feature_set": feature_set.model_dump_json()}
        if base is not None:
            config["base_analysis"] = base.model_dump_json()
        folder = tmp_path_factory.mktemp("transform")

        def bound(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
            return preprocessing_fn(inputs, config)

        with tft_beam.Context(temp_dir=str(folder / "beam")):
            import apache_beam as beam

            with beam.Pipeline(runner=FnApiRunner()) as pipeline:
                dataset = ((pipeline | beam.Create(rows)), metadata)
                graph = dataset | tft_beam.AnalyzeDataset(bound)
                graph | tft_beam.WriteTransformFn(str(folder / "graph"))
        output = tft.TFTransformOutput(str(folder / "graph"))
        return Transformed(apply_graph(output, spec, rows), output)

    return run


def apply_graph(output: tft.TFTransformOutput, spec: FeatureSpec, rows: Rows) -> dict[str, Any]:
    """Transform rows in process, by way of serialized examples, as the trainer does."""
    serialized = [tf.train.Example(features=_features(spec, row)).SerializeToString() for row in rows]
    parsed = tf.io.parse_example(serialized, spec)
    return {name: tensor.numpy() for name, tensor in output.transform_features_layer()(parsed).items()}


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
