"""The table, against evaluations that TFMA made of two small SavedModels."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2

from core.errors import DataError
from monitoring.gate import explain_gate
from schemas.gate import GateReport, GateRow

AUC = 'metrics { class_name: "AUC" %s }'
LOSS = 'metrics { class_name: "BinaryCrossentropy" %s }'
COUNT = 'metrics { class_name: "ExampleCount" }'
EvaluationOf = Callable[..., Path]
# TFMA converts arrays of one element to numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model")


class _Model(tf.Module):
    """Scores by `weight * x + noise`: the greater the weight, the better it ranks."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: tf.io.FixedLenFeature([1], tf.float32) for name in ("x", "noise")}
        features = tf.io.parse_example(examples, spec)
        return {"probability": tf.sigmoid(self.weight * features["x"] + features["noise"])}


def _example(chance: random.Random, carrier: str) -> bytes:
    label = chance.randrange(2)
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0 * label - 1)
    example.features.feature["noise"].float_list.value.append(chance.gauss(0, 1.5))
    example.features.feature["late"].int64_list.value.append(label)
    example.features.feature["carrier"].bytes_list.value.append(carrier.encode())
    return bytes(example.SerializeToString())


@pytest.fixture(scope="module")
def evaluation_of(tmp_path_factory: pytest.TempPathFactory) -> EvaluationOf:
    root = tmp_path_factory.mktemp("gate")
    for name, weight in (("good", 2.0), ("poor", 0.5)):
        model = _Model(weight)
        tf.saved_model.save(model, str(root / name), signatures={"serving_default": model.serve})

    def make(metrics: str, *, champion: str | None = "poor", num_examples: int = 200) -> Path:
        chance = random.Random(0)
        data = root / f"examples-{num_examples}.gz"
        with tf.io.TFRecordWriter(str(data), "GZIP") as writer:
            for position in range(num_examples):
                writer.write(_example(chance, ("AA", "UA")[position % 2]))
        config = text_format.Parse(
            'model_specs { signature_name: "serving_default" label_key: "late" prediction_key: "probability" }'
            'slicing_specs {} slicing_specs { feature_keys: "carrier" } metrics_specs { ' + metrics + " }",
            # TFMA 0.52 has `tfma.EvalConfig` only once TFX is imported.
            config_pb2.EvalConfig(),
        )
        # As TFX's Evaluator prepares it.
        config = tfma.utils.update_eval_config_with_defaults(
            config, has_baseline=champion is not None, rubber_stamp=True
        )
        names = ["good"] if champion is None else ["good", champion]
        models = [
            tfma.default_eval_shared_model(str(root / name), model_name=spec.name, eval_config=config)
            for name, spec in zip(names, config.model_specs, strict=True)
        ]
        output = Path(tmp_path_factory.mktemp("evaluation"))
        tfma.run_model_analysis(
            models if len(models) > 1 else models[0],
            config,
            data_location=str(data),
            output_path=str(output),
            # Beam's default runner first looks for a server to download.
            pipeline_options=PipelineOptions(["--runner=FnApiRunner"]),
        )
        return output

    return make


def row(report: GateReport, metric: str, slice_words: str = "overall") -> GateRow:
    (found,) = (row for row in report.rows if (row.metric, row.slice) == (metric, slice_words))
    return found


def test_bounds_values_and_verdicts_are_in_the_table(evaluation_of: EvaluationOf) -> None:
    auc = AUC % (
        "threshold { value_threshold { lower_bound { value: 0.6 } }"
        " change_threshold { direction: HIGHER_IS_BETTER absolute { value: -0.01 } } }"
        ' per_slice_thresholds { slicing_specs { feature_keys: "carrier" }'
        " threshold { value_threshold { lower_bound { value: 0.999 } } } }"
        ' per_slice_thresholds { slicing_specs { feature_values { key: "carrier" value: "ZZ" } }'
        " threshold { value_threshold { lower_bound { value: 0.5 } } } }"
    )
    loss = LOSS % "threshold { change_threshold { direction: LOWER_IS_BETTER relative { value: 0.05 } } }"
    report = explain_gate(evaluation_of(COUNT + auc + loss))

    overall = row(report, "auc")
    assert overall.passed
    assert overall.candidate is not None
    assert overall.champion is not None
    assert overall.candidate > overall.champion
    assert (overall.lower_bound, overall.upper_bound, overall.change_bound) == (0.6, None, "at least -0.01")
    assert "; required: at least 0.6, a change of at least -0.01: passed." in overall.sentence
    assert row(report, "binary_crossentropy").change_bound == "at most +5.00%"
    assert row(report, "example_count").sentence == (
        "example_count (overall) is 200, the champion's 200; nothing required."
    )
    carrier = row(report, "auc", "carrier=AA")
    assert (carrier.passed, carrier.lower_bound) == (False, 0.999)
    assert not report.is_blessed
    assert [reason.partition(" is ")[0] for reason in report.reasons] == [
        "auc (carrier=AA)", "auc (carrier=UA)", "No evaluated example",
    ]  # fmt: skip
    assert report.reasons[2] == "No evaluated example is in slice carrier=ZZ, of which a metric is required."
    assert report.candidate["auc"] == overall.candidate
    assert set(report.champion) == {"auc", "binary_crossentropy", "example_count"}


def test_a_worse_candidate_fails_against_the_champion(evaluation_of: EvaluationOf) -> None:
    loss = LOSS % "threshold { change_threshold { direction: LOWER_IS_BETTER absolute { value: -0.1 } } }"
    report = explain_gate(evaluation_of(loss, champion="good"))
    assert not report.is_blessed
    assert "; required: a change of at most -0.1: failed." in row(report, "binary_crossentropy").sentence


def test_without_a_champion_the_absolute_bounds_decide(evaluation_of: EvaluationOf) -> None:
    auc = AUC % (
        "threshold { value_threshold { lower_bound { value: 0.6 } upper_bound { value: 1 } }"
        " change_threshold { direction: HIGHER_IS_BETTER absolute { value: 0.5 } } }"
    )
    report = explain_gate(evaluation_of(auc, champion=None))
    overall = row(report, "auc")
    assert report.is_blessed
    assert report.reasons == ()
    assert report.champion == {}
    assert (overall.champion, overall.change_bound) == (None, None)
    assert (overall.lower_bound, overall.upper_bound) == (0.6, 1)


def test_without_any_threshold_nothing_is_blessed(evaluation_of: EvaluationOf) -> None:
    report = explain_gate(evaluation_of(AUC % "", champion=None))
    assert not report.is_blessed
    assert report.reasons == ("The config sets no threshold for any metric: nothing can bless a model.",)


def test_without_any_example_nothing_is_blessed(evaluation_of: EvaluationOf) -> None:
    auc = AUC % "threshold { value_threshold { lower_bound { value: 0.6 } } }"
    report = explain_gate(evaluation_of(auc, champion=None, num_examples=0))
    assert not report.is_blessed
    assert "No example of the eval split was evaluated" in " ".join(report.reasons)


def test_a_folder_without_an_evaluation_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no evaluation\. Expected the files that TFX's Evaluator writes"):
        explain_gate(tmp_path)
