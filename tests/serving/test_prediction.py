"""A loaded model, asked in each of the three ways."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.errors import DataError, ServingError
from schemas.features import LabelSpec
from serving.prediction import Predictor, load_predictor

LATE = LabelSpec(name="late")


def example(temp: float | None = None, *, carrier: str = "AA", late: int | None = 0) -> bytes:
    proto = tf.train.Example()
    proto.features.feature["carrier"].bytes_list.value.append(carrier.encode())
    if temp is not None:
        proto.features.feature["temp"].float_list.value.append(temp)
    if late is not None:
        proto.features.feature["late"].int64_list.value.append(late)
    return bytes(proto.SerializeToString())


def write(path: Path, records: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)
    return path


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


def test_files_are_scored_in_order_and_over_batches(predictor: Predictor, tmp_path: Path) -> None:
    temps = np.linspace(-3, 3, 2500)
    records = [example(temp, late=int(temp > 0)) for temp in temps]
    files = [write(tmp_path / "a.gz", records[:1500]), write(tmp_path / "b.gz", records[1500:])]
    labels, scores = predictor.score_files(files, LATE)
    np.testing.assert_array_equal(labels, temps > 0)
    np.testing.assert_allclose(scores[:, 0], 1 / (1 + np.exp(-temps)), rtol=1e-5)


def test_class_labels_become_indices(predictor: Predictor, tmp_path: Path) -> None:
    records = [example(1.0, carrier=carrier) for carrier in ("UA", "AA", "UA")]
    label = LabelSpec(name="carrier", task="multiclass", classes=("AA", "UA"))
    labels, scores = predictor.score_files([write(tmp_path / "a.gz", records)], label)
    assert labels.tolist() == [1, 0, 1]
    assert scores.shape == (3, 1)


def test_model_of_a_folder_is_loaded_once(saved_model: Callable[..., Path]) -> None:
    folder, other = saved_model(), saved_model(weight=2.0)
    assert load_predictor(folder) is load_predictor(folder)
    assert load_predictor(other) is not load_predictor(folder)
    assert load_predictor(other).predict_columns({"hour": 6, "temp": 1.0}).item() == pytest.approx(sigmoid(2))


def test_a_truncated_file_is_a_data_error(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", [example(1.0) for _ in range(100)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.gz.*cannot be read.*Ingest the span again"):
        predictor.score_files([path], LATE)


def test_a_record_without_a_label_is_a_data_error(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", [example(1.0, late=None)])
    with pytest.raises(DataError, match="A record has 0 values of label 'late'"):
        predictor.score_files([path], LATE)


def test_files_without_records_are_a_data_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to score"):
        predictor.score_files([write(tmp_path / "a.gz", [])], LATE)


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
