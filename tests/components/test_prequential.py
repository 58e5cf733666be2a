from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.prequential import Prequential
from core.errors import DataError
from schemas.artifacts import PrequentialScore as PrequentialScoreArtifact
from schemas.features import LabelSpec
from schemas.model_layout import EXAMPLES_INPUT, SERVING_FOLDER, SERVING_SIGNATURE
from schemas.scores import PREQUENTIAL_FILE, PrequentialScore

BINARY = LabelSpec(name="late")
CLASSES = LabelSpec(name="kind", task="multiclass", classes=("cold", "warm"))


class Sigmoid(tf.Module):
    """Probability `sigmoid(temp)`, alone or beside its complement."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=EXAMPLES_INPUT)])
    def probability(self, examples):
        parsed = tf.io.parse_example(examples, {"temp": tf.io.FixedLenFeature([1], tf.float32)})
        return {"probability": tf.sigmoid(parsed["temp"])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=EXAMPLES_INPUT)])
    def probabilities(self, examples):
        warm = self.probability(examples)["probability"]
        return {"probabilities": tf.concat([1 - warm, warm], axis=1)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root, module = tmp_path_factory.mktemp("models"), Sigmoid()
    for task, function in (("binary", module.probability), ("multiclass", module.probabilities)):
        tf.saved_model.save(module, str(root / task / SERVING_FOLDER), signatures={SERVING_SIGNATURE: function})
    return root


@pytest.fixture
def score(models, make_artifact):
    def score(label, **temps_and_lates):
        examples = make_artifact(standard_artifacts.Examples, "examples")
        examples.set_int_custom_property("span", 12)
        for split, rows in temps_and_lates.items():
            path = Path(examples.uri) / f"Split-{split}" / "span-000012-a.tfrecord.gz"
            path.parent.mkdir()
            with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
                for temp, late in rows:
                    proto = tf.train.Example()
                    proto.features.feature["temp"].float_list.value.append(temp)
                    proto.features.feature["late"].int64_list.value.append(late)
                    proto.features.feature["kind"].bytes_list.value.append(b"warm" if late else b"cold")
                    writer.write(proto.SerializeToString())
        champion = standard_artifacts.Model()
        champion.uri = str(models / label.task)
        artifact = make_artifact(PrequentialScoreArtifact, "score")
        Prequential.test_call(examples=examples, champion=champion, score=artifact, label=label.model_dump_json())
        return PrequentialScore.model_validate_json((Path(artifact.uri) / PREQUENTIAL_FILE).read_text())

    return score


def test_both_splits_are_scored_together(score):
    measured = score(BINARY, train=[(1.0, 1), (-1.0, 0), (2.0, 0)], eval=[(3.0, 1)])
    assert (measured.span, measured.num_examples) == (12, 4)
    assert measured.metrics["auc"] == pytest.approx(3 / 4)
    assert measured.metrics["accuracy"] == 3 / 4
    # Loss of a logit z: log(1 + exp(-z)) where the label is 1, log(1 + exp(z)) where it is 0.
    losses = np.log1p(np.exp([-1.0, -1.0, 2.0, -3.0]))
    assert measured.metrics["binary_crossentropy"] == pytest.approx(losses.mean(), rel=1e-5)


def test_text_labels_of_a_multiclass_task_are_scored_as_classes(score):
    measured = score(CLASSES, train=[(1.0, 1), (-1.0, 0)], eval=[(3.0, 0)])
    assert measured.metrics["sparse_categorical_accuracy"] == pytest.approx(2 / 3)
    assert measured.metrics["example_count"] == 3


def test_metric_that_is_undefined_on_the_span_is_absent(score):
    measured = score(BINARY, train=[(1.0, 1)], eval=[(3.0, 1)])
    assert "auc" not in measured.metrics
    assert measured.metrics["accuracy"] == 1


def test_span_without_examples_is_refused(score):
    with pytest.raises(DataError, match="nothing to score"):
        score(BINARY, train=[], eval=[])
