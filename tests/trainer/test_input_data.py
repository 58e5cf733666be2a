"""Every record is either learned from or held out, in an order that depends on seed and epoch alone."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError
from trainer.input_data import TrainingData, matching_files


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


def test_too_few_examples_to_hold_out_are_refused(training_data: TrainingData) -> None:
    with pytest.raises(DataError, match=r"one in 10 examples.*received num_examples=9"):
        dataclasses.replace(training_data, num_examples=9)


def test_files_are_sorted_over_patterns(tmp_path: Path, write_tfrecords: Callable[..., Path]) -> None:
    files = [str(write_tfrecords(tmp_path / name / "data.gz", [b""])) for name in ("b", "a")]
    assert matching_files([f"{tmp_path}/b/*", f"{tmp_path}/a/*"]) == (files[1], files[0])
