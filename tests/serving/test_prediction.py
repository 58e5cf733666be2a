"""A loaded model, asked in each of the three ways."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.errors import ServingError
from serving.prediction import Predictor


def example(temp: float | None = None, *, carrier: str = "AA", late: int | None = 0) -> bytes:
    proto = tf.train.Example()
    proto.features.feature["carrier"].bytes_list.value.append(carrier.encode())
    if temp is not None:
        proto.features.feature["temp"].float_list.value.append(temp)
    if late is not None:
        proto.features.feature["late"].int64_list.value.append(late)
    return bytes(proto.SerializeToString())


@pytest.fixture(scope="module")
def predictor(saved_model: Callable[..., Path]) -> Predictor:
    return Predictor(saved_model())


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_examples_and_columns_get_the_same_scores(predictor: Predictor) -> None:
    temps = [-2.0, 0.5, 3.0]
    by_example = predictor.predict_examples([example(temp) for temp in temps])
    by_column = predictor.predict_columns({"temp": temps, "carrier": ["AA"] * 3, "hour": [6, 7, 8]})
    assert by_example.shape == (3, 1)
    np.testing.assert_allclose(by_example[:, 0], [sigmoid(temp) for temp in temps], rtol=1e-6)
    np.testing.assert_array_equal(by_example, by_column)


@pytest.mark.parametrize(
    ("columns", "score"),
    [
        ({"temp": 2, "hour": 6, "carrier": "AA"}, sigmoid(2)),
        ({"hour": 6}, 0.5),
        ({"hour": 6, "temp": None}, 0.5),
        ({"hour": 6, "temp": 9.0, "carrier": "XX"}, 0.0),
    ],
    ids=["all", "left-out", "none", "text"],
)
def test_one_example_in_plain_values(predictor: Predictor, columns: dict[str, object], score: float) -> None:
    assert predictor.predict_columns(columns).tolist() == [[pytest.approx(score)]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"hour": 6, "carier": "AA"}, r"no column 'carier'.*Did you mean 'carrier'\?"),
        ({"hour": 6, "temp": "warm"}, r"Column 'temp' has the wrong type. Expected float32; received temp='warm'"),
        ({"hour": 6, "carrier": 4}, r"Column 'carrier' has the wrong type. Expected string"),
        ({"temp": 1.0}, r"Column 'hour' is missing. Expected an integer"),
        ({"hour": [6, 7], "temp": [1.0, 2.0, 3.0]}, r"refused its input.*of the same length"),
    ],
    ids=["unknown", "text-for-number", "number-for-text", "integer-missing", "ragged"],
)
def test_wrong_columns_are_named(predictor: Predictor, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ServingError, match=f"(?s){message}"):
        predictor.predict_columns(columns)


def test_a_record_that_is_no_example_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ServingError, match=r"Signature 'serving_default' .* refused its input"):
        predictor.predict_examples([b"\xff\xff"])


def test_a_missing_signature_is_named(saved_model: Callable[..., Path]) -> None:
    with pytest.raises(ServingError, match=r"has no signature 'predict_columns'.*\['serving_default'\]"):
        Predictor(saved_model(columnar=False)).predict_columns({"hour": 6})


@pytest.mark.parametrize("content", [None, b"not a model"], ids=["absent", "corrupt"])
def test_a_folder_that_holds_no_model_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ServingError, match=r"cannot be loaded.*Expected a SavedModel"):
        Predictor(tmp_path)
