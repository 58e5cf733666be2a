"""Batches of examples for the model, in memory or streamed; which examples, and in what order, is in `input_data`.

Both have the same face: `calls` gives TensorFlow a few steps at a time, `dataset` is for who wants the batches alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from schemas.features import FeatureSet
from schemas.transformed import DenseInput, model_inputs
from trainer.orders import Positions

Tensors = dict[str, Any]


class Packing:
    """Joins the model's inputs to one matrix of floats and one of ids, so that a batch is two look-ups and not thirty.

    Args:
        feature_set: Decides the inputs.
    """

    def __init__(self, feature_set: FeatureSet) -> None:
        items = model_inputs(feature_set)
        self._floats = {item.name: 1 for item in items if isinstance(item, DenseInput)}
        self._ids = {item.name: item.num_values for item in items if not isinstance(item, DenseInput)}

    def packed(self, inputs: Tensors, label: Any) -> "Columns":
        """Return the inputs by name, shape `(num_examples, width)` each, and the label as columns."""
        num_examples = tf.shape(label)[0]
        joined = []
        for widths, dtype in ((self._floats, tf.float32), (self._ids, tf.int64)):
            parts = [tf.reshape(tf.cast(inputs[name], dtype), (num_examples, widths[name])) for name in widths]
            joined.append(tf.concat(parts, axis=1) if parts else tf.zeros((num_examples, 0), dtype))
        return Columns(joined[0], joined[1], label)

    def unpacked(self, floats: Any, ids: Any) -> Tensors:
        """Return the inputs by name."""
        inputs: Tensors = {}
        for widths, matrix in ((self._floats, floats), (self._ids, ids)):
            if widths:
                inputs |= dict(zip(widths, tf.split(matrix, list(widths.values()), axis=1), strict=True))
        return inputs


@dataclass(frozen=True)
class Columns:
    """Examples in memory as the model takes them, one a row.

    Attributes:
        floats: Shape `(num_examples, num_floats)`, float32.
        ids: Shape `(num_examples, num_ids)`, int64.
        label: Shape `(num_examples, 1)`.
    """

    floats: Any
    ids: Any
    label: Any

    @property
    def tensors(self) -> tuple[Any, Any, Any]:
        """All three."""
        return self.floats, self.ids, self.label


@dataclass(frozen=True)
class LoadedBatches:
    """Batches of examples in memory.

    Attributes:
        columns: The examples.
        packing: How their columns are packed.
        positions: Rows in the order of use, shape `(num_used,)`.
        batch_size: Examples per batch; the last may be smaller.
    """

    columns: Columns
    packing: Packing
    positions: Positions
    batch_size: int

    @property
    def column_specs(self) -> tuple[Any, ...]:
        """Shapes and types of the columns, the number of examples left open."""
        return _specs(self.columns.tensors)

    def calls(self, num_steps: int) -> Iterator[tuple[Any, ...]]:
        """Yield the columns, the rows of the next `num_steps` batches, and the batch size."""
        return _calls(self.columns.tensors, self.positions, num_steps, self.batch_size)

    def dataset(self) -> tf.data.Dataset:
        """Return inputs by name, and label of shape `(batch, 1)`."""
        tensors = [tf.gather(tensor, self.positions) for tensor in self.columns.tensors]
        return _named(tf.data.Dataset.from_tensor_slices(tuple(tensors)).batch(self.batch_size), self.packing)


@dataclass(frozen=True)
class StreamedBatches:
    """Batches that are read and transformed while the model learns from those before.

    Attributes:
        chunks: Columns as `Columns.tensors` has them; all but the last are whole batches, several of them.
        packing: How their columns are packed.
        batch_size: Examples per batch; the last may be smaller.
    """

    chunks: tf.data.Dataset
    packing: Packing
    batch_size: int

    @property
    def column_specs(self) -> tuple[Any, ...]:
        """Shapes and types of the columns, the number of examples left open."""
        return _specs(self.chunks.element_spec)

    def calls(self, num_steps: int) -> Iterator[tuple[Any, ...]]:
        """Yield columns, the rows of at most `num_steps` batches of theirs, and the batch size."""
        for tensors in self.chunks:
            yield from _calls(tensors, np.arange(len(tensors[-1])), num_steps, self.batch_size)

    def dataset(self) -> tf.data.Dataset:
        """Return inputs by name, and label of shape `(batch, 1)`."""
        return _named(self.chunks.rebatch(self.batch_size), self.packing)


Batches = LoadedBatches | StreamedBatches


def _specs(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    # What is known of the shapes for good, so that another number of examples is not another trace.
    return tuple(tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in tensors)


def _calls(tensors: tuple[Any, ...], rows: Positions, num_steps: int, batch_size: int) -> Iterator[tuple[Any, ...]]:
    size = num_steps * batch_size
    for first in range(0, len(rows), size):
        yield (*tensors, tf.constant(rows[first : first + size]), tf.constant(batch_size))


def _named(batches: tf.data.Dataset, packing: Packing) -> tf.data.Dataset:
    return batches.map(lambda floats, ids, label: (packing.unpacked(floats, ids), label))
