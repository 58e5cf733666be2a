"""Where the examples of a run come from: memory, transformed once, or files, read and transformed again every epoch.

Both name the same examples in the same order: positions in memory, or serialized records.
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
from trainer.orders import Order, PositionOrder, RecordOrder
from trainer.replayed_examples import ReplayedExamples
from trainer.transform_graph import TransformGraph

_CHUNK_EXAMPLES = 1 << 14  # transformed at a time; bounds what is in memory twice
_STREAMED_EXAMPLES = 1 << 12  # transformed at a time; a few such chunks are in memory
Records = NDArray[np.object_]


class Examples(Protocol):
    """The examples of a train split, and past ones."""

    def new(self) -> Order:
        """Return the train split's examples, four files at a time in turn."""
        ...

    def past(self) -> Order:
        """Return the replay buffer's examples."""
        ...

    def batches(self, chosen: Any, batch_size: int) -> Batches:
        """Return the batches of examples in an order that came of `new` and `past`."""
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

    def new(self) -> RecordOrder:
        """Return serialized examples."""
        return RecordOrder.of_files(self.files)

    def past(self) -> RecordOrder:
        """Return serialized examples."""
        return RecordOrder.of_files([str(self.past_file)])

    def batches(self, chosen: RecordOrder, batch_size: int) -> StreamedBatches:
        """Return batches that are transformed, many at a time, ahead of their use."""
        packing = Packing(self.graph.feature_set)

        def packed(serialized: Any) -> tuple[Any, ...]:
            return packing.packed(*self.graph.features_and_label(serialized)).tensors

        # The graph costs per operation rather than per example until a few thousand come at once.
        num_batches = max(1, _STREAMED_EXAMPLES // batch_size)
        chunks = chosen.blocks.rebatch(num_batches * batch_size)
        transformed = chunks.map(packed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return StreamedBatches(transformed.prefetch(tf.data.AUTOTUNE), packing, batch_size)


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

    def new(self) -> PositionOrder:
        """Return positions."""
        return PositionOrder.of_files(self.file_sizes)

    def past(self) -> PositionOrder:
        """Return positions."""
        return PositionOrder(sum(self.file_sizes) + np.arange(self.num_past))

    def batches(self, chosen: PositionOrder, batch_size: int) -> LoadedBatches:
        """Return batches of rows that are in memory already."""
        return LoadedBatches(self.columns, self.packing, chosen.positions, batch_size)


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
