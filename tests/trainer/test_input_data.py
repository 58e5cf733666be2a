"""Every record is either learned from or held out, in an order that depends on seed and epoch alone."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.errors import DataError
from trainer.batches import Batches
from trainer.input_data import TrainingData, matching_files
from trainer.replayed_examples import read_replayed_examples
from trainer.transform_graph import TransformGraph


def _labels(batches: Batches) -> list[float]:
    return [float(value) for _, label in batches.dataset() for value in label.numpy()[:, 0]]


def _fingerprints(batches: Batches) -> list[tuple[float, ...]]:
    """Return one tuple of features per example, nearly unique by the value of `wind`."""
    rows: list[tuple[float, ...]] = []
    for features, _ in batches.dataset():
        columns = [features[name].numpy()[:, 0].tolist() for name in ("wind", "hour_sin", "tailnum", "carrier")]
        rows += list(zip(*columns, strict=True))
    return rows


def test_training_and_validation_divide_the_examples(training_data: TrainingData, flights: Any) -> None:
    learned = _fingerprints(training_data.training(0))
    held_out = _fingerprints(training_data.validation())
    features = TransformGraph(flights.graph, flights.feature_set).features(np.array(flights.serialized, dtype=object))
    names = ("wind", "hour_sin", "tailnum", "carrier")
    everything = list(zip(*(features[name].numpy()[:, 0].tolist() for name in names), strict=True))
    assert (len(learned), len(held_out)) == (900, 100)
    assert sorted(learned + held_out) == sorted(everything)


def test_an_epoch_has_its_steps(training_data: TrainingData) -> None:
    assert training_data.steps_per_epoch == 9
    assert sum(1 for _ in training_data.training(0).dataset()) == 9


def test_epochs_differ_in_order(training_data: TrainingData) -> None:
    first, second = (_fingerprints(training_data.training(epoch)) for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_seed_changes_the_order_and_the_global_seed_does_not(training_data: TrainingData) -> None:
    other = dataclasses.replace(training_data, seed=training_data.seed + 100)
    labels = _labels(training_data.training(0))
    assert labels != _labels(other.training(0))
    tf.random.set_seed(12345)
    assert labels == _labels(training_data.training(0))


def test_validation_repeats_itself(training_data: TrainingData) -> None:
    assert _labels(training_data.validation()) == _labels(training_data.validation())


@pytest.fixture(scope="module")
def with_replay(make_data: Any, make_examples: Any, write_replay: Any) -> Callable[..., TrainingData]:
    """Mix past examples, told by carrier and wind, into the training data."""

    def mix(num_past: int, ratio: float, **options: bool) -> TrainingData:
        past = [make_examples(1, carrier=["OLD"], wind=[index / 50])[0] for index in range(num_past)]
        return make_data(read_replayed_examples(write_replay(past), ratio), **options)

    return mix


def _exact(batches: Batches) -> list[tuple[dict[str, Any], Any]]:
    return [({name: t.numpy() for name, t in inputs.items()}, label.numpy()) for inputs, label in batches.dataset()]


@pytest.mark.parametrize(
    "batches_of",
    [
        lambda data: data.training(0),
        lambda data: data.training(3),
        lambda data: data.validation(),
        lambda data: data.newest(30, 2),
    ],
    ids=["epoch", "later epoch", "held out", "newest"],
)
def test_examples_in_memory_come_in_the_batches_in_which_they_are_streamed(
    batches_of: Callable[[TrainingData], Batches], with_replay: Callable[..., TrainingData]
) -> None:
    loaded, streamed = (_exact(batches_of(with_replay(50, 0.5, is_loaded=loaded))) for loaded in (True, False))
    assert len(loaded) == len(streamed)
    for (inputs, label), (others, other) in zip(loaded, streamed, strict=True):
        np.testing.assert_array_equal(label, other)
        assert inputs.keys() == others.keys()
        for name, tensor in inputs.items():
            # Of a tensor of another length TensorFlow computes other elements one by one: a last digit may differ.
            np.testing.assert_allclose(tensor, others[name], atol=1e-6)


def _is_past(rows: list[tuple[float, ...]]) -> list[bool]:
    """Tell the past examples by their carrier, which is in the out-of-vocabulary bucket."""
    return [carrier == 20 for *_, carrier in rows]


@pytest.mark.parametrize(("num_past", "ratio"), [(500, 0.5), (50, 0.5), (50, 2.0)], ids=["once", "repeated", "more"])
def test_every_batch_has_its_share_of_past_examples(
    with_replay: Callable[..., TrainingData], num_past: int, ratio: float
) -> None:
    data = with_replay(num_past, ratio)
    total = round(900 * (1 + ratio))
    assert data.num_replayed_examples == round(900 * ratio)
    assert data.steps_per_epoch == -(-total // 100)
    rows = _fingerprints(data.training(0))
    is_past = _is_past(rows)
    assert (len(rows), sum(is_past)) == (total, round(900 * ratio))
    for start in range(0, total, 100):
        batch = is_past[start : start + 100]
        assert sum(batch) == pytest.approx(len(batch) * ratio / (1 + ratio), abs=1)
    times = Counter(row for row, past in zip(rows, is_past, strict=True) if past)
    assert max(times.values()) - min(times.values()) <= 1
    assert len(times) == min(num_past, round(900 * ratio))


def test_new_examples_all_come_once_whatever_is_replayed(
    with_replay: Callable[..., TrainingData], training_data: TrainingData
) -> None:
    data = with_replay(200, 0.3)
    rows = _fingerprints(data.training(0))
    new = [row for row, past in zip(rows, _is_past(rows), strict=True) if not past]
    assert new == _fingerprints(training_data.training(0))
    assert not any(_is_past(_fingerprints(data.validation())))


def test_replayed_epochs_differ(with_replay: Callable[..., TrainingData]) -> None:
    data = with_replay(500, 0.2)
    epochs = [_fingerprints(data.training(epoch)) for epoch in (0, 1)]
    past = [{row for row, old in zip(rows, _is_past(rows), strict=True) if old} for rows in epochs]
    assert len(past[0]) == len(past[1]) == 180
    assert past[0] != past[1]


def test_empty_buffer_replays_nothing(with_replay: Callable[..., TrainingData], training_data: TrainingData) -> None:
    data = with_replay(0, 1.0)
    assert data.num_replayed_examples == 0
    assert data.steps_per_epoch == training_data.steps_per_epoch
    assert data.replayed.shortage(900) == (
        "The replay buffer has 0 examples where replay_ratio=1 asks for 900 beside 900 new ones; none was replayed."
    )


def test_newest_examples_are_the_last(training_data: TrainingData) -> None:
    assert (training_data.num_newest(30), training_data.num_newest(10_000)) == (30, 900)
    newest = _fingerprints(training_data.newest(30, 2))
    everything = _fingerprints(training_data.newest(900, 9))
    assert len(newest) == 200  # 30 examples, repeated
    assert len(set(newest)) == 30
    assert set(newest) < set(everything)
    assert sum(1 for _ in training_data.newest(30, 2).dataset()) == 2


def test_too_few_examples_to_hold_out_are_refused(training_data: TrainingData) -> None:
    with pytest.raises(DataError, match=r"one in 10 examples.*received num_examples=9"):
        dataclasses.replace(training_data, num_examples=9)


def test_files_are_sorted_over_patterns(tmp_path: Path, write_tfrecords: Callable[..., Path]) -> None:
    files = [str(write_tfrecords(tmp_path / name / "data.gz", [b""])) for name in ("b", "a")]
    assert matching_files([f"{tmp_path}/b/*", f"{tmp_path}/a/*"]) == (files[1], files[0])
