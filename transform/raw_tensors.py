"""Raw columns, dense, sparse or ragged, as dense tensors of one type. Nothing here knows what a column means.

The reviewed schema decides how TensorFlow Transform delivers a column: a fixed shape gives a `tf.Tensor`, a column that
may be missing a `tf.SparseTensor`. Everything after this module sees only `tf.Tensor`s.
"""

from typing import Any

import tensorflow as tf

from core.errors import SchemaError

# tf.Tensor, tf.SparseTensor or tf.RaggedTensor; TensorFlow brings no types.
RawTensor = Any


def numbers(name: str, column: RawTensor) -> tf.Tensor:
    """Return one number per example, the first if there are more; a missing value is NaN.

    Args:
        name: Column, for the error.
        column: Shape `(batch,)`, `(batch, n)` or sparse; integer or float.

    Returns:
        Shape `(batch, 1)`, float64.

    Raises:
        SchemaError: the column holds strings.
    """
    if column.dtype == tf.string:
        raise SchemaError(
            f"Column {name!r} holds strings and cannot be a number. Expected type INT or FLOAT; received BYTES. "
            "Correct its type in the schema, or make the feature `vocabulary` or `hashed`."
        )
    return _first_values(tf.cast(column, tf.float64), 1, tf.constant(float("nan"), tf.float64))


def tokens(name: str, column: RawTensor, num_values: int) -> tf.Tensor:
    """Return the first `num_values` values of every example as strings; a missing value is the empty string.

    Args:
        name: Column, for the error.
        column: Shape `(batch,)`, `(batch, n)`, sparse or ragged; string or integer.
        num_values: Width of the result.

    Returns:
        Shape `(batch, num_values)`, string.

    Raises:
        SchemaError: the column holds floats.
    """
    if column.dtype.is_floating:
        raise SchemaError(
            f"Column {name!r} holds floats and cannot be a category. Expected type BYTES or INT; received FLOAT. "
            "Correct its type in the schema, or make the feature `numeric` or `bucketized`."
        )
    return _first_values(_as_strings(column), num_values, tf.constant(""))


def _as_strings(column: RawTensor) -> RawTensor:
    if column.dtype == tf.string:
        return column
    if isinstance(column, tf.SparseTensor):
        return column.with_values(tf.strings.as_string(column.values))
    if isinstance(column, tf.RaggedTensor):
        return column.with_flat_values(tf.strings.as_string(column.flat_values))
    return tf.strings.as_string(column)


def _first_values(column: RawTensor, num_values: int, missing: tf.Tensor) -> tf.Tensor:
    """Cut or pad every example to `num_values` values, shape `(batch, num_values)`, in few operations.

    A graph is traced three times for every analysis and once for every model, at a millisecond an operation.
    """
    if isinstance(column, tf.SparseTensor):
        shape = tf.stack([column.dense_shape[0], num_values])
        cut = tf.sparse.slice(column, [0, 0], shape)
        dense = tf.sparse.to_dense(tf.SparseTensor(cut.indices, cut.values, shape), missing, validate_indices=False)
        return tf.ensure_shape(dense, (None, num_values))
    if isinstance(column, tf.RaggedTensor):
        return column.to_tensor(default_value=missing, shape=(None, num_values))
    width = column.shape[1:].num_elements()
    matrix = column if column.shape.rank == 2 else tf.reshape(column, (tf.shape(column)[0], width))
    if width < num_values:
        return tf.pad(matrix, ((0, 0), (0, num_values - width)), constant_values=missing)
    return matrix if width == num_values else matrix[:, :num_values]
