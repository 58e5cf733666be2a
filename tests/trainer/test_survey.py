"""Data that no model could learn from is refused before training, with the file and the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from core.errors import DataError
from schemas.features import FeatureSet
from trainer.survey import Survey, survey_examples

LATE: dict[str, Any] = {"name": "late"}
OUTCOME = {"name": "outcome", "task": "multiclass", "classes": ("early", "on time", "late")}
DELAY = {"name": "delay", "task": "regression"}
TYPES = {
    "late": tf.int64,
    "outcome": tf.string,
    "delay": tf.float32,
    "hour": tf.int64,
    "carrier": tf.string,
    "tags": tf.string,
}
HOUR = {"hour": {"kind": "cyclic", "period": 24}}


@pytest.fixture
def survey(tmp_path: Path, write_tfrecords: Callable[..., Path]) -> Callable[..., Survey]:
    """Write each list of serialized examples to a file and survey them all."""

    def run(
        *contents: list[bytes], label: dict[str, Any] = LATE, types: dict[str, Any] = TYPES, **options: Any
    ) -> Survey:
        files = [write_tfrecords(tmp_path / f"{index}.gz", content) for index, content in enumerate(contents)]
        feature_set = FeatureSet.model_validate({"features": HOUR, "label": label, **options})
        return survey_examples(tuple(map(str, files)), feature_set, types)

    return run


def test_examples_are_counted_over_files(survey: Callable[..., Survey], make_examples: Callable[..., Any]) -> None:
    assert survey(make_examples(30), make_examples(12), []).num_examples == 42


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "no gzip"])
def test_damaged_file_is_named(
    damage: str, tmp_path: Path, write_tfrecords: Callable[..., Path], make_examples: Callable[..., Any]
) -> None:
    good = write_tfrecords(tmp_path / "good.gz", make_examples(50))
    bad = write_tfrecords(tmp_path / "bad.gz", make_examples(50))
    content = bytearray(bad.read_bytes())
    if damage == "truncated":
        content = content[:-5]
    elif damage == "flipped bit":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"plain text, not gzip")
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz' cannot be read.*Expected gzipped TFRecords, whole"):
        survey_examples((str(good), str(bad)), FeatureSet.model_validate({"features": HOUR, "label": LATE}), TYPES)


def test_no_examples_are_refused(survey: Callable[..., Survey]) -> None:
    with pytest.raises(DataError, match=r"The train split is empty.*0 in 2 files"):
        survey([], [])


def test_missing_labels_are_counted(survey: Callable[..., Survey], make_examples: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"0\.gz has 30 examples but 20 labels.*'late'.*received 10 without"):
        survey(make_examples(20) + make_examples(10, late=None))


def test_label_of_the_wrong_type_is_refused(survey: Callable[..., Survey], make_examples: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="with a label 'late' of type int64"):
        survey(make_examples(10, late=["yes"]))


@pytest.mark.parametrize(
    ("label", "values", "received"),
    [(LATE, [1], "1"), (OUTCOME, ["late"], "late")],
    ids=["binary", "multiclass"],
)
def test_one_class_is_refused(
    label: dict[str, Any],
    values: list[Any],
    received: str,
    survey: Callable[..., Survey],
    make_examples: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match=f"'{label['name']}' has one class only in 10 examples.*received '{received}'"):
        survey(make_examples(10, **{label["name"]: values}), label=label)


@pytest.mark.parametrize(
    ("label", "values", "rule"),
    [
        (LATE, [2], "Expected 0 or 1; received {'2': 10}"),
        (OUTCOME, ["cancelled"], r"Expected one of \['early', .*received {'cancelled': 10}"),
        (DELAY, [float("nan")], "Expected a finite number; received {'nan': 10}"),
        (DELAY, [float("inf")], "Expected a finite number; received {'inf': 10}"),
    ],
    ids=["binary", "multiclass", "NaN", "infinite"],
)
def test_unusable_label_is_refused(
    label: dict[str, Any],
    values: list[Any],
    rule: str,
    survey: Callable[..., Survey],
    make_examples: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match=rule):
        survey(make_examples(10), make_examples(10, **{label["name"]: values}), label=label)


def test_constant_number_is_learnable(survey: Callable[..., Survey], make_examples: Callable[..., Any]) -> None:
    assert survey(make_examples(10, delay=[1.5]), label=DELAY).num_examples == 10


def test_tokens_are_counted_as_the_transform_graph_uses_them(
    survey: Callable[..., Survey], make_examples: Callable[..., list[bytes]]
) -> None:
    features = {
        **HOUR,
        "carrier": {"kind": "vocabulary"},
        "tags": {"kind": "vocabulary", "multivalued": True, "max_values": 3},
        "number": {"kind": "vocabulary"},
        "tailnum": {"kind": "hashed"},
    }
    examples = [
        *make_examples(3, late=[0], carrier=["AA", "ignored"], tags=["x", "", "y", "fourth"], number=[-7]),
        *make_examples(2, late=[1], carrier=["Zürich"], tags=["x", "x"], number=[30, 4]),
        *make_examples(1, late=[1], carrier=["two\nlines"], tags=None, number=None),
    ]
    counts = survey(
        examples[:4], examples[4:], features=features, types={**TYPES, "number": tf.int64, "tailnum": tf.string}
    ).token_counts
    assert counts == {"carrier": {"AA": 3, "Zürich": 2}, "tags": {"x": 7, "y": 3}, "number": {"-7": 3, "30": 2}}


def test_tokens_of_any_bytes_are_counted(
    survey: Callable[..., Survey], make_examples: Callable[..., list[bytes]]
) -> None:
    raw = [tf.train.Example.FromString(example) for example in make_examples(20)]
    for example in raw:
        example.features.feature["carrier"].bytes_list.value[:] = [b"\xff\\"]
    counts = survey([example.SerializeToString() for example in raw], features={"carrier": {"kind": "vocabulary"}})
    assert counts.token_counts == {"carrier": {r"\xff\\": 20}}


def test_nothing_is_counted_for_features_that_a_user_makes(
    survey: Callable[..., Survey], make_examples: Callable[..., list[bytes]]
) -> None:
    features = {"route": {"kind": "vocabulary"}}
    received = survey(make_examples(20), features=features, preprocessing_fn="module:function")
    assert received == Survey(20, {})


def test_column_of_another_type_is_named(
    survey: Callable[..., Survey], make_examples: Callable[..., list[bytes]]
) -> None:
    with pytest.raises(DataError, match="'late' of type int64 and columns 'carrier' of type int64; received"):
        survey(make_examples(5), features={"carrier": {"kind": "vocabulary"}}, types={**TYPES, "carrier": tf.int64})
