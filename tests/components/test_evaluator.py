"""Both engines of the Evaluator on the same examples: what one writes, TFMA's loaders read as the other's."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format, text_format
from tensorflow_model_analysis.slicer import slicer_lib
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator import EvaluatorExecutor
from core.errors import DataError
from monitoring.evaluation import read_evaluation
from pipeline.evaluation import evaluation_config
from schemas.engine import EngineOptions
from schemas.features import FeatureSet, LabelSpec
from schemas.gate import GateOptions
from schemas.model_layout import SERVING_FOLDER, SERVING_SIGNATURE, TRAINING_FOLDER
from schemas.provenance import ENGINE, EXAMPLES_COUNTS
from schemas.training import TrainerRequest, TrainingOptions
from trainer.training_record import TRAINING_RECORD_FILE, TrainingRecord

LABELS = {
    "binary": LabelSpec(name="late"),
    "multiclass": LabelSpec(name="kind", task="multiclass", classes=("early", "on time", "late")),
    "regression": LabelSpec(name="delay", task="regression"),
}
OUTPUTS = {"binary": ("probability", 1), "multiclass": ("probabilities", 3), "regression": ("value", 1)}
# One of each: a bound that holds, one that does not, of everything and of slices, and of a slice that has no example.
BOUNDS: dict[str, tuple[dict[str, Any], ...]] = {
    "binary": (
        {"metric": "auc", "minimum": 0.6},
        {"metric": "auc", "minimum": 0.8, "slices": ["carrier"]},
        {"metric": "accuracy", "minimum": 0.5, "slices": ["month", "carrier"]},
        {"metric": "mean_squared_error", "maximum": 0.9},
        {"metric": "binary_crossentropy", "maximum": 0.5},
        {"metric": "example_count", "minimum": 1, "slices": ["gate"]},
    ),
    "multiclass": (
        {"metric": "sparse_categorical_accuracy", "minimum": 0.9},
        {"metric": "sparse_categorical_crossentropy", "maximum": 2.0, "slices": ["carrier"]},
    ),
    "regression": (
        {"metric": "mean_squared_error", "maximum": 0.5, "slices": ["carrier"]},
        {"metric": "mean_absolute_error", "maximum": 5.0},
    ),
}
# Of the first metric, against the baseline: in absolute terms for the first task, relative for the others.
CHANGES = {
    "binary": "direction: HIGHER_IS_BETTER absolute { value: 0.05 }",
    "multiclass": "direction: HIGHER_IS_BETTER relative { value: 0.9 }",
    "regression": "direction: LOWER_IS_BETTER relative { value: -0.01 }",
}
SCHEMA = """
feature { name: "late" type: INT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "kind" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "delay" type: FLOAT presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "carrier" type: BYTES presence { min_fraction: 0 } }
feature { name: "month" type: INT presence { min_fraction: 0 } }
feature { name: "share" type: FLOAT presence { min_fraction: 0 } }
feature { name: "gate" type: BYTES presence { min_fraction: 0 } }
feature { name: "noise" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 3 } } }
"""
NUM_EXAMPLES = 300
# TFMA converts arrays of one element to numbers, and one class has no area under its curve.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model"),
    pytest.mark.filterwarnings("ignore:.*encountered in (scalar )?divide:RuntimeWarning:tensorflow_model"),
]


def records() -> list[bytes]:
    """Return examples whose label says something of their noise; some lack a carrier, or have two."""
    rng = np.random.default_rng(6)
    made = []
    for row in range(NUM_EXAMPLES):
        late = int(rng.integers(2))
        kind = int(rng.integers(3))
        noise = rng.normal(size=3) + np.array([late, 0, 0]) + np.eye(3)[kind]
        columns: dict[str, list[Any]] = {
            "late": [late],
            "kind": [LABELS["multiclass"].classes[kind].encode()],
            "delay": [float(noise[0] + rng.normal())],
            "carrier": [[b"AA"], [b"UA"], [], [b"AA", b"UA"], ["Æ".encode()]][row % 5],
            "month": [row % 3],
            "share": [0.1 * (row % 2)],
            "noise": noise.tolist(),
        }
        proto = tf.train.Example()
        for name, values in columns.items():
            kind_of = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
            if values:
                getattr(proto.features.feature[name], kind_of[type(values[0])]).value.extend(values)
        made.append(proto.SerializeToString())
    return made


def save_model(folder: Path, task: str, weight: float) -> None:
    """Save a model that scores by `weight * noise`, and what a Trainer says of it."""
    output, size = OUTPUTS[task]
    model = tf.Module()
    model.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> Any:
        columns = tf.io.parse_example(examples, {"noise": tf.io.FixedLenFeature([3], tf.float32)})
        logits = model.weight * columns["noise"][:, :size]
        return {output: {"binary": tf.sigmoid, "multiclass": tf.nn.softmax, "regression": tf.identity}[task](logits)}

    model.serve = serve
    tf.saved_model.save(model, str(folder / SERVING_FOLDER), signatures={SERVING_SIGNATURE: serve})
    feature_set = FeatureSet.model_validate({"features": {"noise": {"kind": "numeric"}}, "label": LABELS[task]})
    record = TrainingRecord(
        request=TrainerRequest(
            feature_set=feature_set, options=TrainingOptions(), initialisation="cold", checkpoint_dir=""
        ),
        num_examples=1,
        num_validation_examples=0,
        initialisation="cold",
        line_length=0,
        learning_rate=0.1,
        steps=1,
        history=(),
        best_epoch=0,
        seconds=0,
        transform_graph_digest="",
    )
    (folder / TRAINING_FOLDER).mkdir()
    (folder / TRAINING_FOLDER / TRAINING_RECORD_FILE).write_text(record.model_dump_json())


@dataclass
class Evaluated:
    """What an engine left."""

    folder: Path
    engine: str
    blessed: int | None
    baseline: str

    @property
    def metrics(self) -> dict[Any, dict[str, float]]:
        """Metrics by slice, and by model, whether it is a difference, and name."""
        return {
            slicer_lib.deserialize_slice_key(found.slice_key): {
                f"{item.key.model_name} {item.key.is_diff} {item.key.name}": item.value.double_value.value
                for item in found.metric_keys_and_values
            }
            for found in tfma.load_metrics(str(self.folder))
        }

    @property
    def validation(self) -> Any:
        """The verdict, with the failures in an order of their own."""
        result = tfma.load_validation_result(str(self.folder))
        failures = Counter(
            (str(of_slice.slice_key), str(failure.metric_key), str(failure.metric_threshold), failure.message)
            for of_slice in result.metric_validations_per_slice
            for failure in of_slice.failures
        )
        details = Counter(map(str, result.validation_details.slicing_details))
        return result.validation_ok, failures, details, sorted(map(str, result.missing_slices)), result.rubber_stamp


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Evaluated]:
    """Run the executor, with the poorer model as baseline if asked; the same is run once."""
    root = tmp_path_factory.mktemp("evaluator")
    split = root / "examples" / "Split-eval"
    split.mkdir(parents=True)
    for name, part in (("a", records()[:200]), ("b", records()[200:])):
        with tf.io.TFRecordWriter(str(split / f"{name}.gz"), "GZIP") as writer:
            for record in part:
                writer.write(record)
    (root / "schema").mkdir()
    (root / "schema" / "schema.pbtxt").write_text(SCHEMA)
    done: dict[Any, Evaluated] = {}

    def artifact(kind: Any, folder: Path) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        made = kind()
        made.uri = str(folder)
        return made

    def run(task: str, engine: str, *, baseline: bool, config: Any, num_examples: int = NUM_EXAMPLES) -> Evaluated:
        key = (task, engine, baseline, config.SerializeToString(deterministic=True), num_examples)
        if key in done:
            return done[key]
        for name, weight in (("good", 1.0), ("poor", 0.2)):
            if not (root / f"{task}-{name}").exists():
                save_model(root / f"{task}-{name}", task, weight)
        examples = artifact(standard_artifacts.Examples, root / "examples")
        examples.split_names = artifact_utils.encode_split_names(["eval"])
        examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps({"eval": num_examples}))
        inputs = {
            "examples": [examples],
            "model": [artifact(standard_artifacts.Model, root / f"{task}-good")],
            "schema": [artifact(standard_artifacts.Schema, root / "schema")],
        }
        if baseline:
            inputs["baseline_model"] = [artifact(standard_artifacts.Model, root / f"{task}-poor")]
        out = root / f"out-{len(done)}"
        shutil.rmtree(out, ignore_errors=True)
        evaluation = artifact(standard_artifacts.ModelEvaluation, out / "evaluation")
        blessing = artifact(standard_artifacts.ModelBlessing, out / "blessing")
        context = EvaluatorExecutor.Context(["--runner=FnApiRunner"], tmp_dir=str(root / "tmp"))
        EvaluatorExecutor(context).Do(
            inputs,
            {"evaluation": [evaluation], "blessing": [blessing]},
            {
                "eval_config": json_format.MessageToJson(config),
                "module_path": "components.class_labels" if task == "multiclass" else None,
                "label": LABELS[task].model_dump_json(),
                "engine": EngineOptions(use=engine).model_dump_json(),
            },
        )
        has_verdict = blessing.has_custom_property("blessed")
        done[key] = Evaluated(
            out / "evaluation",
            evaluation.get_string_custom_property(ENGINE),
            blessing.get_int_custom_property("blessed") if has_verdict else None,
            blessing.get_string_custom_property("baseline_model"),
        )
        return done[key]

    return run


def config_of(task: str) -> Any:
    """Return a config as the pipeline makes it, and a change threshold."""
    slices = (("carrier",), ("month",), ("share",), ("carrier", "month"), ("gate",))
    config = evaluation_config(LABELS[task], GateOptions(slices=slices, bounds=BOUNDS[task]))
    # By value too, of a column that TFMA compares as text.
    config.slicing_specs.add(feature_keys=["month"], feature_values={"carrier": "AA"})
    changed = config.metrics_specs[0].metrics[0].threshold
    text_format.Parse(CHANGES[task], changed.change_threshold)
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "baseline"),
    [("binary", False), ("binary", True), ("multiclass", True), ("regression", True)],
    ids=["alone", "binary", "multiclass", "regression"],
)
def test_both_engines_write_the_same(evaluate: Callable[..., Evaluated], task: str, baseline: bool) -> None:
    ours, theirs = (
        evaluate(task, engine, baseline=baseline, config=config_of(task)) for engine in ("in_process", "beam")
    )
    assert (ours.engine, theirs.engine) == ("in_process", "beam")
    assert ours.metrics.keys() == theirs.metrics.keys()
    assert {(), (("carrier", "AA"),), (("carrier", "AA"), ("month", 2)), (("carrier", "Æ"),)} <= set(ours.metrics)
    for key, values in theirs.metrics.items():
        assert ours.metrics[key] == pytest.approx(values, abs=1e-4, nan_ok=True), key
        counts = {name for name in values if name.endswith("example_count")}
        assert {name: ours.metrics[key][name] for name in counts} == {name: values[name] for name in counts}
    assert ours.validation == theirs.validation
    assert not ours.validation[0]
    assert (ours.blessed, ours.baseline) == (theirs.blessed, theirs.baseline)
    assert bool(ours.baseline) == baseline
    assert sorted(path.name for path in ours.folder.iterdir()) == sorted(path.name for path in theirs.folder.iterdir())
    results = [tfma.load_eval_result(str(found.folder)) for found in (ours, theirs)]
    assert results[0].config == results[1].config
    assert results[0].model_location == results[1].model_location
    assert len(results[0].plots) == len(results[1].plots) == len(ours.metrics)


def test_it_is_read_as_the_gate_reads_it(evaluate: Callable[..., Evaluated]) -> None:
    found = read_evaluation(evaluate("binary", "in_process", baseline=False, config=config_of("binary")).folder)
    assert found.metrics[()]["example_count"] == NUM_EXAMPLES
    assert found.is_valid is False
    assert ((("carrier", "AA"),), "auc") in found.failures
    assert found.missing_slices == ("gate=?",)


def test_without_a_threshold_nothing_is_blessed(evaluate: Callable[..., Evaluated]) -> None:
    config = evaluation_config(LABELS["regression"], GateOptions(bounds=({"metric": "calibration", "minimum": 0.1},)))
    for metric in config.metrics_specs[0].metrics:
        metric.ClearField("per_slice_thresholds")
    found = evaluate("regression", "in_process", baseline=False, config=config)
    assert found.blessed is None
    assert read_evaluation(found.folder).is_valid is None
    assert list(found.metrics) == [()]


@pytest.mark.slow
def test_a_metric_without_an_array_path_is_beams(
    evaluate: Callable[..., Evaluated], caplog: pytest.LogCaptureFixture
) -> None:
    config = evaluation_config(LABELS["binary"], GateOptions(bounds=({"metric": "auc", "minimum": 0.1},)))
    config.metrics_specs[0].metrics.add(class_name="MeanSquaredLogarithmicError")
    with caplog.at_level(logging.WARNING, logger="components.evaluator"):
        found = evaluate("binary", "auto", baseline=False, config=config)
    assert found.engine == "beam"
    assert "Evaluated on Beam, not in process. Metric" in caplog.text


def test_an_example_that_is_missing_is_noticed(evaluate: Callable[..., Evaluated]) -> None:
    config = config_of("regression")
    with pytest.raises(DataError, match=r"Evaluator \(in_process\) lost or doubled examples.*'eval': 301.*'eval': 300"):
        evaluate("regression", "in_process", baseline=False, config=config, num_examples=NUM_EXAMPLES + 1)
