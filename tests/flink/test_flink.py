"""The nodes that read many examples give the same on another machine's workers as in this process.

On Flink where Beam's job server for it can be had, and on Beam's own job server everywhere. How many examples:
PERENNIAL_FLINK_EXAMPLES.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft

from benchmarks.heavy_nodes import bootstrap_span, ingest_flights, inputs_of, make_inputs, run_node
from monitoring.evaluation import read_evaluation
from pipeline.config import Config, load_config
from schemas.engine import BeamOptions
from schemas.provenance import ENGINE

NUM_EXAMPLES = int(os.environ.get("PERENNIAL_FLINK_EXAMPLES", 6_000))
pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def _config(root: Path, *overrides: str) -> Config:
    return load_config(Path("conf/flights.yaml"), (f"root={root}", "window.cold_spans=1", *overrides))


def _save_model(folder: Path) -> None:
    """Save a model with the signature of ours that scores by the hour alone."""
    model = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> Any:
        features = tf.io.parse_example(examples, {"hour": tf.io.FixedLenFeature([1], tf.int64)})
        return {"probability": tf.sigmoid((tf.cast(features["hour"], tf.float32) - 15.0) / 4.0)}

    tf.saved_model.save(model, str(folder / "Format-Serving"), signatures={"serving_default": serve})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("span")
    source = _config(folder / "source")
    ingest_flights(source, range(1, 3))
    config = _config(folder)
    span = bootstrap_span(source.spans_path, config.spans_path, NUM_EXAMPLES)
    _save_model(folder / "model")
    return make_inputs(config, span, folder, folder / "model")


@pytest.fixture(scope="module")
def run(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Run a node in this process, or on Beam as the options say, and return its outputs."""

    def run_one(node: str, options: BeamOptions | None = None) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(node)
        overrides = ["engine=in_process"]
        if options:
            values = options.model_dump(exclude_defaults=True)
            overrides = ["engine=beam", *(f"beam.{name}={value}" for name, value in values.items())]
        outputs = run_node(_config(folder, *overrides), node, inputs_of(node, inputs), folder / "outputs")
        assert [path.name for path in folder.rglob("beam-temp-*")] == []
        return outputs

    return run_one


def _facts(statistics: Any, split: str) -> dict[str, Any]:
    """Return what is exact of a split's statistics: quantiles are approximations on either engine."""
    file = Path(statistics.uri, f"Split-{split}", "FeatureStats.pb")
    (dataset,) = tfdv.load_stats_binary(str(file)).datasets
    facts: dict[str, Any] = {"num_examples": dataset.num_examples}
    for feature in dataset.features:
        numbers = feature.num_stats
        common = (numbers or feature.string_stats).common_stats
        tokens = {(bucket.label, bucket.sample_count) for bucket in feature.string_stats.rank_histogram.buckets}
        facts[feature.path.step[0]] = (common.num_non_missing, numbers.min, numbers.max, numbers.num_zeros, tokens)
    return facts


def test_statistics_are_equal(beam: BeamOptions, run: Callable[..., dict[str, Any]]):
    here, there = run("StatisticsGen")["statistics"], run("StatisticsGen", beam)["statistics"]
    assert there.get_string_custom_property(ENGINE) == "beam"
    expected = {split: _facts(here, split) for split in ("train", "eval")}
    assert sum(facts["num_examples"] for facts in expected.values()) >= NUM_EXAMPLES - 1
    assert {split: _facts(there, split) for split in expected} == expected


def test_vocabularies_are_equal(beam: BeamOptions, run: Callable[..., dict[str, Any]]):
    here, there = run("Transform")["transform_graph"], run("Transform", beam)["transform_graph"]
    assert there.get_string_custom_property(ENGINE) == "beam"
    for feature in ("carrier", "origin", "dest", "tailnum"):
        found = tft.TFTransformOutput(there.uri).vocabulary_by_name(feature)
        assert found == tft.TFTransformOutput(here.uri).vocabulary_by_name(feature), feature
        assert found, feature


def test_evaluations_are_equal(beam: BeamOptions, run: Callable[..., dict[str, Any]]):
    here, there = run("Evaluator")["evaluation"], run("Evaluator", beam)["evaluation"]
    assert there.get_string_custom_property(ENGINE) == "beam"
    expected, found = (read_evaluation(Path(artifact.uri)).metrics for artifact in (here, there))
    assert found.keys() == expected.keys()
    for key, metrics in expected.items():
        assert found[key]["example_count"] == metrics["example_count"]
        assert found[key] == pytest.approx(metrics, abs=1e-4)
