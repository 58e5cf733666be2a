"""Scores that are computed once, however many nodes ask, by models that are told apart by content."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.errors import DataError, ServingError
from schemas.features import LabelSpec
from serving import scoring
from serving.prediction import VARIABLES, Predictor
from serving.scoring import Scorer

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
def scorer(saved_model: Callable[..., Path]) -> Scorer:
    return Scorer(saved_model())


def test_files_are_scored_in_order_and_over_batches(scorer: Scorer, tmp_path: Path) -> None:
    temps = np.linspace(-3, 3, 5000)
    records = [example(temp, late=int(temp > 0)) for temp in temps]
    files = [write(tmp_path / "a.gz", records[:4500]), write(tmp_path / "b.gz", records[4500:])]
    labels, scores = scorer.score_files(files, LATE)
    np.testing.assert_array_equal(labels, temps > 0)
    np.testing.assert_allclose(scores[:, 0], 1 / (1 + np.exp(-temps)), rtol=1e-5)


def test_class_labels_become_indices(scorer: Scorer, tmp_path: Path) -> None:
    records = [example(1.0, carrier=carrier) for carrier in ("UA", "AA", "UA")]
    label = LabelSpec(name="carrier", task="multiclass", classes=("AA", "UA"))
    labels, scores = scorer.score_files([write(tmp_path / "a.gz", records)], label)
    assert labels.tolist() == [1, 0, 1]
    assert scores.shape == (3, 1)


def test_what_was_scored_needs_no_model_again(saved_model: Callable[..., Path], tmp_path: Path) -> None:
    folder, records = saved_model(weight=3.0), [example(1.0), example(-1.0)]
    candidate = Scorer(folder)
    pushed = Scorer(shutil.copytree(folder, tmp_path / "pushed"))
    scores = candidate(records)
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "pushed")
    np.testing.assert_array_equal(candidate(records), scores)
    np.testing.assert_array_equal(pushed(np.array(records, object)), scores)
    with pytest.raises(ValueError, match="read-only"):
        candidate(records)[0] = 0


def test_models_and_batches_are_told_apart_by_content(saved_model: Callable[..., Path]) -> None:
    first, second = Scorer(saved_model(weight=4.0)), Scorer(saved_model(weight=5.0))
    records = [example(1.0), example(-1.0)]
    assert first(records)[0] < second(records)[0]
    np.testing.assert_array_equal(first(records[::-1]), first(records)[::-1])


def test_models_that_nobody_asked_for_lately_are_dropped(saved_model: Callable[..., Path]) -> None:
    for weight in range(10, 10 + scoring.MAX_PROGRAMS + 1):
        Scorer(saved_model(weight=float(weight)))([example(1.0)])
    assert len(scoring._PROGRAMS) <= scoring.MAX_PROGRAMS


@pytest.fixture
def with_weight(saved_model: Callable[..., Path], tmp_path: Path) -> Callable[[float], Path]:
    """Return a function that makes a model of one program, as the Trainer exports warm-started ones."""
    base = saved_model(weight=6.0)

    def make(weight: float) -> Path:
        folder = shutil.copytree(base, tmp_path / str(weight))
        names = tf.train.load_checkpoint(str(base / VARIABLES)).get_variable_to_shape_map()
        values = {name: tf.train.load_variable(str(base / VARIABLES), name) for name in names}
        tf.raw_ops.SaveV2(
            prefix=str(folder / VARIABLES),
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=[tf.constant(weight if "weight" in name else value) for name, value in values.items()],
        )
        return folder

    return make


def test_models_of_one_program_score_as_if_each_was_loaded(with_weight: Callable[[float], Path]) -> None:
    folders = [with_weight(weight) for weight in (6.5, 7.5)]
    alone = [Predictor(folder).predict_examples([example(0.1)]) for folder in folders]
    assert alone[0] < alone[1]
    num_programs = len(scoring._PROGRAMS)
    for number, folder in [*enumerate(folders), *enumerate(folders)]:
        # A batch of its own each time, or the scores were known.
        scores = Scorer(folder)([example(0.1), example(9.0, late=number)])
        np.testing.assert_array_equal(scores[:1], alone[number])
    assert len(scoring._PROGRAMS) <= min(num_programs + 1, scoring.MAX_PROGRAMS)


def test_variables_of_another_program_are_refused(with_weight: Callable[[float], Path]) -> None:
    good, bad = with_weight(8.5), with_weight(9.5)
    for file in (bad / VARIABLES).parent.iterdir():
        file.unlink()
    tf.raw_ops.SaveV2(
        prefix=str(bad / VARIABLES), tensor_names=["other"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
    )
    expected = Scorer(good)([example(0.2)])
    with pytest.raises(ServingError, match=r"(?s)The variables of .* cannot be read.*those of its own program"):
        Scorer(bad)([example(0.2)])
    np.testing.assert_array_equal(Scorer(good)([example(0.2), example(0.3)])[:1], expected)


@pytest.mark.parametrize("content", [None, b"not a model"], ids=["absent", "corrupt"])
def test_a_folder_that_holds_no_model_cannot_score(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ServingError, match=r"cannot be loaded.*Expected a SavedModel"):
        Scorer(tmp_path)([example(1.0)])


def test_a_truncated_file_is_a_data_error(scorer: Scorer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", [example(1.0) for _ in range(100)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.gz.*cannot be read.*ngest the span again"):
        scorer.score_files([path], LATE)


def test_a_record_without_a_label_is_a_data_error(scorer: Scorer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", [example(1.0, late=None)])
    with pytest.raises(DataError, match="A record has 0 values of label 'late'"):
        scorer.score_files([path], LATE)


def test_files_without_records_are_a_data_error(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to score"):
        scorer.score_files([write(tmp_path / "a.gz", [])], LATE)
