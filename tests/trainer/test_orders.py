"""Positions in memory and records from files come in one order, whatever is asked of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer.orders import SHUFFLE_BLOCK_EXAMPLES, PositionOrder, RecordOrder


def _taken(order: Any) -> list[int]:
    if isinstance(order, PositionOrder):
        return order.positions.tolist()
    blocks = list(order.blocks.as_numpy_iterator())
    return np.concatenate(blocks).tolist() if blocks else []


def _both(num_examples: int) -> tuple[PositionOrder, RecordOrder]:
    positions = np.arange(num_examples)
    return PositionOrder(positions), RecordOrder(tf.data.Dataset.from_tensor_slices(positions).batch(999))


@pytest.mark.parametrize(
    "sizes", [[5], [3, 1], [4, 4, 4, 4], [2, 7, 1, 3, 5, 2, 9, 1], [1, 0, 2, 0, 0, 3, 1, 4], [9, 1, 1, 1, 1, 1, 1]]
)
def test_files_are_read_in_turn(sizes: list[int], tmp_path: Path, write_tfrecords: Callable[..., Path]) -> None:
    numbers = iter(range(sum(sizes)))
    files = []
    for index, size in enumerate(sizes):
        records = [str(next(numbers)).encode() for _ in range(size)]
        files.append(str(write_tfrecords(tmp_path / f"{index}.gz", records)))
    assert [int(record) for record in _taken(RecordOrder.of_files(files))] == _taken(PositionOrder.of_files(sizes))


@pytest.mark.parametrize(
    "asked",
    [
        lambda order: order.learned_from(7),
        lambda order: order.held_out(7),
        lambda order: order.without_first(5000),
        lambda order: order.first(11),
        lambda order: order.first(200_000),
        lambda order: order.shuffled(3),
        lambda order: order.learned_from(10).without_first(60_000).shuffled(1).first(9000),
        lambda order: order.shuffled(1).mixed_with(order.held_out(9).shuffled(2), 70_000, 30_000),
    ],
    ids=["learned", "held out", "without", "first", "repeated", "shuffled", "newest", "mixed"],
)
def test_both_kinds_answer_alike(asked: Callable[[Any], Any]) -> None:
    positions, records = map(asked, _both(SHUFFLE_BLOCK_EXAMPLES + 10_000))
    assert _taken(positions) == _taken(records)


def test_what_is_learned_from_is_not_held_out() -> None:
    order, _ = _both(100)
    assert _taken(order.held_out(10)) == list(range(9, 100, 10))
    assert sorted(_taken(order.held_out(10)) + _taken(order.learned_from(10))) == list(range(100))


def test_shuffling_keeps_every_example_and_heeds_the_seed() -> None:
    order, _ = _both(1000)
    assert sorted(_taken(order.shuffled(1))) == list(range(1000))
    assert _taken(order.shuffled(1)) != _taken(order.shuffled(2))
    assert _taken(order.shuffled(1)) != list(range(1000))
