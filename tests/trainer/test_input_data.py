"""Every record is either learned from or held out, in an order that depends on seed and epoch alone."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError
from trainer.input_data import TrainingData, matching_files
from trainer.replayed_examples import read_replayed_examples


def _labels(dataset: Any, num_batches: int) -> list[float]:
    return [float(value) for _, label in dataset.take(num_batches) for value in label.numpy()[:, 0]]


def _fingerprints(dataset: Any, num_batches: int) -> list[tuple[float, ...]]:
    """Return one tuple of features per example, nearly unique by the value of `wind`."""
    rows: list[tuple[float, ...]] = []
    for features, _ in dataset.take(num_batches):
        columns = [features[name].numpy()[:, 0].tolist() for name in ("wind", "hour_sin", "tailnum", "carrier")]
        rows += list(zip(*columns, strict=True))
    return rows


def test_training_and_validation_divide_the_examples(training_data: TrainingData, flights: Any) -> None:
    learned = _fingerprints(training_data.training(0, 1), training_data.steps_per_epoch)
    held_out = _fingerprints(training_data.validation(), training_data.validation_steps)
    features = training_data.graph.features(np.array(flights.serialized, dtype=object))
    names = ("wind", "hour_sin", "tailnum", "carrier")
    everything = list(zip(*(features[name].numpy()[:, 0].tolist() for name in names), strict=True))
    assert (len(learned), len(held_out)) == (900, 100)
    assert sorted(learned + held_out) == sorted(everything)


def test_stream_of_an_epoch_ends_with_it(training_data: TrainingData) -> None:
    assert training_data.steps_per_epoch == 9
    assert sum(1 for _ in training_data.training(0, 2)) == 18


def test_epochs_differ_in_order_and_later_ones_can_be_had_alone(training_data: TrainingData) -> None:
    steps = training_data.steps_per_epoch
    both = _fingerprints(training_data.training(0, 2), 2 * steps)
    second = _fingerprints(training_data.training(1, 2), steps)
    assert both[900:] == second
    assert both[:900] != second
    assert sorted(both[:900]) == sorted(second)


def test_seed_changes_the_order(training_data: TrainingData) -> None:
    other = dataclasses.replace(training_data, seed=training_data.seed + 100)
    assert _labels(training_data.training(0, 1), 9) != _labels(other.training(0, 1), 9)


def test_validation_repeats_itself(training_data: TrainingData) -> None:
    steps = training_data.validation_steps
    twice = _labels(training_data.validation(), 2 * steps)
    assert twice[:100] == twice[100:]


@pytest.fixture(scope="module")
def with_replay(training_data: TrainingData, make_examples: Any, write_replay: Any) -> Callable[..., TrainingData]:
    """Mix past examples, told by carrier and wind, into the training data."""

    def mix(num_past: int, ratio: float) -> TrainingData:
        past = [make_examples(1, carrier=["OLD"], wind=[index / 50])[0] for index in range(num_past)]
        return dataclasses.replace(training_data, replayed=read_replayed_examples(write_replay(past), ratio))

    return mix


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
    rows = _fingerprints(data.training(0, 1), data.steps_per_epoch)
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
    rows = _fingerprints(data.training(0, 1), data.steps_per_epoch)
    new = [row for row, past in zip(rows, _is_past(rows), strict=True) if not past]
    assert new == _fingerprints(training_data.training(0, 1), training_data.steps_per_epoch)
    assert not any(_is_past(_fingerprints(data.validation(), data.validation_steps)))


def test_replayed_epochs_differ_and_can_be_had_alone(with_replay: Callable[..., TrainingData]) -> None:
    data = with_replay(500, 0.2)
    steps = data.steps_per_epoch
    both = _fingerprints(data.training(0, 2), 2 * steps)
    second = _fingerprints(data.training(1, 2), steps)
    assert both[1080:] == second
    past = [{row for row, old in zip(rows, _is_past(rows), strict=True) if old} for rows in (both[:1080], second)]
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
    newest = _fingerprints(training_data.newest(30, 2), 2)
    everything = _fingerprints(training_data.newest(900, 9), 9)
    assert len(newest) == 200  # 30 examples, repeated
    assert len(set(newest)) == 30
    assert set(newest) < set(everything)
    assert sum(1 for _ in training_data.newest(30, 2)) == 2


def test_too_few_examples_to_hold_out_are_refused(training_data: TrainingData) -> None:
    with pytest.raises(DataError, match=r"one in 10 examples.*received num_examples=9"):
        dataclasses.replace(training_data, num_examples=9)


def test_files_are_sorted_over_patterns(tmp_path: Path, write_tfrecords: Callable[..., Path]) -> None:
    files = [str(write_tfrecords(tmp_path / name / "data.gz", [b""])) for name in ("b", "a")]
    assert matching_files([f"{tmp_path}/b/*", f"{tmp_path}/a/*"]) == (files[1], files[0])
