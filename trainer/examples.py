"""Where the examples of a run come from: memory, transformed once, or files, read and transformed again every epoch.

Both name the same examples in the same order, as scalars of a `tf.data.Dataset`: positions in memory, or serialized
records. So whatever picks and shuffles them picks and shuffles alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from records.reading import serialized_batches
from trainer.batches import Batches, Columns, LoadedBatches, Packing, StreamedBatches
from trainer.replayed_examples import ReplayedExamples
from trainer.transform_graph import TransformGraph

# Files read at a time; fixed rather than tuned, because the order of records depends on it.
NUM_INTERLEAVED_FILES = 4
_CHUNK_EXAMPLES = 1 << 14  # transformed at a time; bounds what is in memory twice
Records = NDArray[np.object_]


class Examples(Protocol):
    """The examples of a train split, and past ones."""

    def new(self) -> tf.data.Dataset:
        """Return the train split's examples, scalars, four files at a time in turn."""
        ...

    def past(self) -> tf.data.Dataset:
        """Return the replay buffer's examples, scalars."""
        ...

    def batches(self, chosen: tf.data.Dataset, num_chosen: int, batch_size: int) -> Batches:
        """Return the batches of the first `num_chosen` scalars of `chosen`."""
        ...


@dataclass(frozen=True)
class StreamedExamples:
    """Examples that stay in their files.

    Attributes:
        files: Gzipped TFRecord files, in order.
        graph: Parses and transforms batches of serialized examples.
        past_file: That of past examples.
    """

    files: tuple[str, ...]
    graph: TransformGraph
    past_file: str | None = None

    def new(self) -> tf.data.Dataset:
        """Return serialized examples, scalars."""
        return _interleaved(self.files, lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP"))

    def past(self) -> tf.data.Dataset:
        """Return serialized examples, scalars."""
        return tf.data.TFRecordDataset(self.past_file, compression_type="GZIP")

    def batches(self, chosen: tf.data.Dataset, num_chosen: int, batch_size: int) -> StreamedBatches:
        """Return batches that are transformed one by one, ahead of their use."""
        serialized = chosen.take(num_chosen).batch(batch_size)
        transformed = serialized.map(
            self.graph.features_and_label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return StreamedBatches(transformed.prefetch(tf.data.AUTOTUNE), -(-num_chosen // batch_size))


@dataclass(frozen=True)
class LoadedExamples:
    """Examples in memory, past ones after new ones.

    Attributes:
        columns: All examples, transformed.
        packing: How the columns are packed.
        file_sizes: Examples per file of the train split.
        num_past: Past examples.
    """

    columns: Columns
    packing: Packing
    file_sizes: tuple[int, ...]
    num_past: int

    def new(self) -> tf.data.Dataset:
        """Return positions, scalars."""
        ends = np.cumsum(self.file_sizes)
        ranges = np.stack([ends - self.file_sizes, ends], axis=1).astype(np.int64)
        return _interleaved(ranges, lambda bounds: tf.data.Dataset.range(bounds[0], bounds[1]))

    def past(self) -> tf.data.Dataset:
        """Return positions, scalars."""
        num_new = sum(self.file_sizes)
        return tf.data.Dataset.range(num_new, num_new + self.num_past)

    def batches(self, chosen: tf.data.Dataset, num_chosen: int, batch_size: int) -> LoadedBatches:
        """Return batches of rows that are in memory already."""
        positions = next(iter(chosen.take(num_chosen).batch(num_chosen))).numpy()
        return LoadedBatches(self.columns, self.packing, positions, batch_size)


def load_examples(
    records: Sequence[Records], graph: TransformGraph, replayed: ReplayedExamples | None
) -> LoadedExamples:
    """Return the examples of a train split, and past ones, transformed.

    Args:
        records: Serialized examples per file.
        graph: Parses and transforms them.
        replayed: Past examples.

    Raises:
        DataError: the replay buffer's file is damaged.
    """
    has_past = replayed is not None and replayed.num_examples > 0
    past = list(serialized_batches([Path(replayed.file)])) if replayed is not None and has_past else []
    everything = np.concatenate([*records, *past])
    packing = Packing(graph.feature_set)
    chunks = []
    for first in range(0, len(everything), _CHUNK_EXAMPLES):
        # Not traced: the graph runs once, and tracing it takes longer than that.
        inputs, label = graph.transformed_with_label(tf.constant(everything[first : first + _CHUNK_EXAMPLES]))
        chunks.append(packing.packed(inputs, label).tensors)
    columns = Columns(*(tf.concat(parts, axis=0) for parts in zip(*chunks, strict=True)))
    return LoadedExamples(columns, packing, tuple(map(len, records)), sum(map(len, past)))


def _interleaved(items: Any, read: Any) -> tf.data.Dataset:
    """Return the scalars of several datasets at a time, in a fixed order."""
    return tf.data.Dataset.from_tensor_slices(items if isinstance(items, np.ndarray) else list(items)).interleave(
        read, cycle_length=NUM_INTERLEAVED_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
