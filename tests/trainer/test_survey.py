"""Data that no model could learn from is refused before training, with the file and the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from core.errors import DataError
from schemas.features import LabelSpec
from trainer.survey import count_examples

LATE = LabelSpec(name="late")
OUTCOME = LabelSpec(name="outcome", task="multiclass", classes=("early", "on time", "late"))
DELAY = LabelSpec(name="delay", task="regression")


@pytest.fixture
def survey(tmp_path: Path, write_tfrecords: Callable[..., Path]) -> Callable[..., int]:
    """Write each list of serialized examples to a file and count them all."""

    def run(*contents: list[bytes], label: LabelSpec = LATE, dtype: tf.DType = tf.int64) -> int:
        files = [write_tfrecords(tmp_path / f"{index}.gz", content) for index, content in enumerate(contents)]
        return count_examples(tuple(map(str, files)), label, dtype)

    return run


def test_examples_are_counted_over_files(survey: Callable[..., int], make_examples: Callable[..., Any]) -> None:
    assert survey(make_examples(30), make_examples(12), []) == 42


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "no gzip"])
def test_damaged_file_is_named(
    damage: str, tmp_path: Path, write_tfrecords: Callable[..., Path], make_examples: Callable[..., Any]
) -> None:
    good = write_tfrecords(tmp_path / "good.gz", make_examples(50))
    bad = write_tfrecords(tmp_path / "bad.gz", make_examples(50))
    content = bytearray(bad.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped bit":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"plain text, not gzip")
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz cannot be read after \d+ examples"):
        count_examples((str(good), str(bad)), LATE, tf.int64)


def test_no_examples_are_refused(survey: Callable[..., int]) -> None:
    with pytest.raises(DataError, match=r"The train split is empty.*0 in 2 files"):
        survey([], [])


def test_missing_labels_are_counted(survey: Callable[..., int], make_examples: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"0\.gz has 30 examples but 20 labels.*'late'.*received 10 without"):
        survey(make_examples(20) + make_examples(10, late=None))


def test_label_of_the_wrong_type_is_refused(survey: Callable[..., int], make_examples: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="with a label 'late' of type int64"):
        survey(make_examples(10, late=["yes"]))


@pytest.mark.parametrize(
    ("label", "dtype", "values", "received"),
    [(LATE, tf.int64, [1], "1"), (OUTCOME, tf.string, ["late"], "late")],
    ids=["binary", "multiclass"],
)
def test_one_class_is_refused(
    label: LabelSpec,
    dtype: tf.DType,
    values: list[Any],
    received: str,
    survey: Callable[..., int],
    make_examples: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match=f"'{label.name}' has one class only in 10 examples.*received '{received}'"):
        survey(make_examples(10, **{label.name: values}), label=label, dtype=dtype)


@pytest.mark.parametrize(
    ("label", "dtype", "values", "rule"),
    [
        (LATE, tf.int64, [2], "Expected 0 or 1; received {'2': 10}"),
        (OUTCOME, tf.string, ["cancelled"], r"Expected one of \['early', .*received {'cancelled': 10}"),
        (DELAY, tf.float32, [float("nan")], "Expected a finite number; received {'nan': 10}"),
        (DELAY, tf.float32, [float("inf")], "Expected a finite number; received {'inf': 10}"),
    ],
    ids=["binary", "multiclass", "NaN", "infinite"],
)
def test_unusable_label_is_refused(
    label: LabelSpec,
    dtype: tf.DType,
    values: list[Any],
    rule: str,
    survey: Callable[..., int],
    make_examples: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match=rule):
        survey(make_examples(10), make_examples(10, **{label.name: values}), label=label, dtype=dtype)


def test_constant_number_is_learnable(survey: Callable[..., int], make_examples: Callable[..., Any]) -> None:
    assert survey(make_examples(10, delay=[1.5]), label=DELAY, dtype=tf.float32) == 10
