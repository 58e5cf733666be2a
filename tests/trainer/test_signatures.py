"""What is served equals what was trained: the skew tests, through every signature."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas.model_layout import KERAS_FILE, SERVING_FOLDER, TRAINING_FOLDER
from trainer.transform_graph import TransformGraph

TOLERANCE = 1e-5


@pytest.fixture
def served(base_model: Path) -> Any:
    return tf.saved_model.load(str(base_model / SERVING_FOLDER)).signatures


@pytest.fixture
def expected(base_model: Path, flights: Any) -> Any:
    """Predictions of the trained Keras model on the transformed rows."""
    model = keras.saving.load_model(base_model / TRAINING_FOLDER / KERAS_FILE)
    features = TransformGraph(flights.graph, flights.feature_set).features(tf.constant(flights.serialized))
    return model.predict_on_batch(features)


def test_serialized_examples_predict_as_in_training(served: Any, expected: Any, flights: Any) -> None:
    predictions = served["serving_default"](examples=tf.constant(flights.serialized))["probability"].numpy()
    assert predictions.shape == (1000, 1)
    np.testing.assert_allclose(predictions, expected, atol=TOLERANCE)


def test_columns_predict_as_in_training(served: Any, expected: Any, flights: Any) -> None:
    predictions = served["predict_columns"](**_columns(flights.rows))["probability"].numpy()
    np.testing.assert_allclose(predictions, expected, atol=TOLERANCE)


def test_columns_need_neither_label_nor_unused_columns(served: Any, flights: Any) -> None:
    assert set(served["predict_columns"].structured_input_signature[1]) == set(flights.feature_set.features)


def test_transformed_features_equal_the_transform_graph(served: Any, flights: Any) -> None:
    examples = tf.constant(flights.serialized)
    expected = TransformGraph(flights.graph, flights.feature_set).features(examples)
    received = served["transform_features"](examples=examples)
    assert received.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(received[name], tensor, atol=TOLERANCE)


def test_label_is_not_needed_to_predict(served: Any, make_examples: Any) -> None:
    with_label = tf.constant(make_examples(20))
    without = tf.constant(make_examples(20, late=None, outcome=None, delay=None))
    predict = served["serving_default"]
    np.testing.assert_array_equal(predict(examples=with_label)["probability"], predict(examples=without)["probability"])


@pytest.mark.parametrize("wind", [float("nan"), float("inf"), -float("inf"), 3e38], ids=str)
def test_absurd_numbers_predict_a_probability(served: Any, make_examples: Any, wind: float) -> None:
    predictions = served["serving_default"](examples=tf.constant(make_examples(5, wind=[wind])))["probability"]
    assert np.all((predictions.numpy() >= 0) & (predictions.numpy() <= 1))


def test_unknown_categories_predict_a_probability(served: Any, make_examples: Any) -> None:
    examples = tf.constant(make_examples(5, carrier=["never seen"], tags=["a", "b", "c", "d", "e"]))
    predictions = served["serving_default"](examples=examples)["probability"].numpy()
    assert np.all((predictions >= 0) & (predictions <= 1))


def _columns(rows: list[dict[str, list[Any]]]) -> dict[str, tf.Tensor]:
    """Return rows as columns, with `""` and NaN for missing."""
    width = max(len(row["tags"]) for row in rows)
    return {
        "carrier": tf.constant([row["carrier"] or [""] for row in rows]),
        "tailnum": tf.constant([row["tailnum"] for row in rows]),
        "tags": tf.constant([row["tags"] + [""] * (width - len(row["tags"])) for row in rows]),
        "hour": tf.constant([row["hour"] for row in rows], tf.int64),
        "distance": tf.constant([row["distance"] or [float("nan")] for row in rows], tf.float32),
        "wind": tf.constant([row["wind"] or [float("nan")] for row in rows], tf.float32),
    }
