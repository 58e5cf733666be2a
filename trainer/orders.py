"""Examples in an order: which are taken, which are left out, how they are shuffled; not where they come from.

Two kinds answer alike: positions of examples in memory, arrays that cost microseconds, and serialized records, a
`tf.data.Dataset` of blocks, since a Python call or a scalar at a time would cost more than training on a record.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# Files read at a time; fixed rather than tuned, because the order of records depends on it.
NUM_INTERLEAVED_FILES = 4
# Positions or serialized records shuffled at a time: a flight is about 0.5 KB, so tens of megabytes at most.
SHUFFLE_BLOCK_EXAMPLES = 1 << 16
_BLOCK_EXAMPLES = 1 << 12  # handed on at a time
Positions = NDArray[np.int64]


class Order(Protocol):
    """Examples in an order. Every method returns another order."""

    def learned_from(self, every: int) -> Self:
        """Leave out what `held_out` takes."""
        ...

    def held_out(self, every: int) -> Self:
        """Take those at positions `every` - 1, 2 `every` - 1 and so on."""
        ...

    def without_first(self, num_examples: int) -> Self:
        """Leave out the first so many."""
        ...

    def first(self, num_examples: int) -> Self:
        """Take so many, from the start again where there are fewer."""
        ...

    def shuffled(self, seed: int) -> Self:
        """Shuffle within blocks of `SHUFFLE_BLOCK_EXAMPLES`."""
        ...

    def mixed_with(self, past: Self, num_new: int, num_past: int) -> Self:
        """Take so many of both, evenly mixed: every batch has its share of both."""
        ...


@dataclass(frozen=True)
class PositionOrder:
    """Examples in memory, by position.

    Attributes:
        positions: Shape `(num_examples,)`.
    """

    positions: Positions

    @classmethod
    def of_files(cls, file_sizes: Sequence[int]) -> Self:
        """Return the examples of files in the order in which `RecordOrder.of_files` reads them."""
        # A place of the cycle whose file ends is left empty for that turn; the next file starts in the turn after.
        free = [(0, place) for place in range(NUM_INTERLEAVED_FILES)]
        turns, places = [], []
        for size in file_sizes:
            turn, place = heapq.heappop(free)
            turns.append(np.arange(turn, turn + size))
            places.append(np.full(size, place))
            heapq.heappush(free, (turn + size + 1, place))
        return cls(np.lexsort((np.concatenate(places), np.concatenate(turns))))

    def learned_from(self, every: int) -> Self:
        """Leave out what `held_out` takes."""
        return type(self)(self.positions[np.arange(len(self.positions)) % every != every - 1])

    def held_out(self, every: int) -> Self:
        """Take every k-th."""
        return type(self)(self.positions[every - 1 :: every])

    def without_first(self, num_examples: int) -> Self:
        """Leave out the first so many."""
        return type(self)(self.positions[num_examples:])

    def first(self, num_examples: int) -> Self:
        """Take so many, from the start again where there are fewer."""
        return type(self)(np.resize(self.positions, num_examples))

    def shuffled(self, seed: int) -> Self:
        """Shuffle within blocks."""
        starts = range(0, len(self.positions), SHUFFLE_BLOCK_EXAMPLES)
        blocks = [self.positions[start : start + SHUFFLE_BLOCK_EXAMPLES] for start in starts]
        return type(self)(np.concatenate([_shuffled(block, seed, index).numpy() for index, block in enumerate(blocks)]))

    def mixed_with(self, past: Self, num_new: int, num_past: int) -> Self:
        """Take so many of both, evenly mixed."""
        is_past = _is_past(np.arange(num_new + num_past), num_new, num_past) == 1
        mixed = np.empty(num_new + num_past, np.int64)
        mixed[is_past], mixed[~is_past] = past.first(num_past).positions, self.first(num_new).positions
        return type(self)(mixed)


@dataclass(frozen=True)
class RecordOrder:
    """Serialized examples that are read when they are asked for.

    Attributes:
        blocks: Of shape `(num_block_examples,)`, however long.
    """

    blocks: tf.data.Dataset

    @classmethod
    def of_files(cls, files: Sequence[str]) -> Self:
        """Return the examples of gzipped TFRecord files, a few files at a time in turn."""

        def records(file: Any) -> tf.data.Dataset:
            return tf.data.TFRecordDataset(file, compression_type="GZIP")

        names = tf.data.Dataset.from_tensor_slices(list(files))
        # Not in parallel: passing single records between threads costs more than reading them.
        return cls(names.interleave(records, cycle_length=NUM_INTERLEAVED_FILES).batch(_BLOCK_EXAMPLES))

    def learned_from(self, every: int) -> Self:
        """Leave out what `held_out` takes."""
        blocks = self.blocks.rebatch(every * _BLOCK_EXAMPLES)
        return type(self)(
            blocks.map(lambda block: tf.boolean_mask(block, tf.range(tf.size(block)) % every != every - 1))
        )

    def held_out(self, every: int) -> Self:
        """Take every k-th."""
        return type(self)(self.blocks.rebatch(every * _BLOCK_EXAMPLES).map(lambda block: block[every - 1 :: every]))

    def without_first(self, num_examples: int) -> Self:
        """Leave out the first so many."""
        blocks = self.blocks.rebatch(_BLOCK_EXAMPLES).enumerate()
        return type(self)(
            blocks.map(lambda index, block: block[tf.maximum(num_examples - index * _BLOCK_EXAMPLES, 0) :])
        )

    def first(self, num_examples: int) -> Self:
        """Take so many, from the start again where there are fewer."""
        blocks = self.blocks.repeat().rebatch(_BLOCK_EXAMPLES).take(-(-num_examples // _BLOCK_EXAMPLES)).enumerate()
        return type(self)(blocks.map(lambda index, block: block[: num_examples - index * _BLOCK_EXAMPLES]))

    def shuffled(self, seed: int) -> Self:
        """Shuffle within blocks."""
        blocks = self.blocks.rebatch(SHUFFLE_BLOCK_EXAMPLES).enumerate()
        return type(self)(blocks.map(lambda index, block: _shuffled(block, seed, index)).prefetch(1))

    def mixed_with(self, past: Self, num_new: int, num_past: int) -> Self:
        """Take so many of both, evenly mixed."""
        total = num_new + num_past
        kinds = tf.data.Dataset.range(total).map(lambda position: _is_past(position, num_new, num_past))
        records = [self.blocks.unbatch(), past.blocks.repeat().unbatch()]
        return type(self)(tf.data.Dataset.choose_from_datasets(records, kinds).batch(_BLOCK_EXAMPLES))


def _shuffled(block: Any, seed: int, index: Any) -> Any:
    """Shuffle a block.

    Not by `Dataset.shuffle`: its order depends on TensorFlow's global seed too, whatever `seed` says, so that a run
    would end differently in a process that has run before.
    """
    seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(index, tf.int64)])
    return tf.random.experimental.stateless_shuffle(block, seeds)


def _is_past(position: Any, num_new: int, num_past: int) -> Any:
    """Tell, as 0 or 1, whether the share of past examples grows by a whole one at this position."""
    total = num_new + num_past
    return (position + 1) * num_past // total - position * num_past // total
