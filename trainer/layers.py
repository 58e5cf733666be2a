"""The layers that Keras does not bring; registered, so that a saved model loads in safe mode."""

import keras
import tensorflow as tf
from keras import ops

from schemas.transformed import PADDING_ID

PACKAGE = "perennial"


@keras.saving.register_keras_serializable(PACKAGE)
class MaskedMeanEmbedding(keras.layers.Embedding):
    """The mean of the rows of an example's ids; ids equal to `PADDING_ID` do not count, and none at all gives zeros.

    Input shape `(batch, num_values)`, int64. Output shape `(batch, output_dim)`, float32.
    """

    def call(self, ids: keras.KerasTensor) -> keras.KerasTensor:
        """Look up ids of shape `(batch, num_values)` and average them to shape `(batch, output_dim)`."""
        # In TensorFlow's words, as few as possible: every feature pays for them whenever something is traced.
        rows = tf.gather(ops.cast(self.embeddings, self.compute_dtype), tf.maximum(ids, 0))
        mask = tf.cast(tf.not_equal(ids, PADDING_ID), rows.dtype)[:, :, tf.newaxis]
        if ids.shape[1] == 1:
            return tf.squeeze(rows * mask, axis=1)
        return tf.reduce_sum(rows * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, output_dim)` for `(batch, num_values)`."""
        return (input_shape[0], self.output_dim)


@keras.saving.register_keras_serializable(PACKAGE)
class NumericAffine(keras.layers.Layer):
    """`scale * z + offset` for every numeric input, the identity at first.

    A refresh changes the mean and scale of a z-score; here that change is undone, before any layer sees it, so that a
    warm start predicts as its base model did. One layer for all inputs, because Keras' tracing costs time a layer.

    Input: a list of n tensors, `(batch, 1)` each, float32; output: as many of the same shape.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create `scale` and `offset`, shape `(n,)`, in the order of the inputs."""
        width = len(input_shape)
        self.scale = self.add_weight(name="scale", shape=(width,), initializer="ones")
        self.offset = self.add_weight(name="offset", shape=(width,), initializer="zeros")

    def call(self, inputs: list[keras.KerasTensor]) -> list[keras.KerasTensor]:
        """Return the affine image of every input, in the order of the inputs."""
        joined = ops.concatenate(inputs, axis=-1) * self.scale + self.offset
        return list(ops.split(joined, len(inputs), axis=-1))

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> list[tuple[int | None, ...]]:
        """Return the inputs' shapes."""
        return input_shape


@keras.saving.register_keras_serializable(PACKAGE)
class Cross(keras.layers.Layer):
    """One cross layer: `x0 * (W x + b) + x`, elementwise product, all of shape `(batch, width)`.

    Source:
        Wang et al., DCN V2: Improved Deep & Cross Network, WWW 2021, equation 1.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create `W`, shape `(width, width)`, and `b`, shape `(width,)`."""
        width = input_shape[0][-1]
        self.kernel = self.add_weight(name="kernel", shape=(width, width), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")

    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        """Cross `[x0, x]`, each of shape `(batch, width)`, to one tensor of that shape."""
        first, last = inputs
        return first * (ops.matmul(last, self.kernel) + self.bias) + last

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape of `x0`."""
        return input_shape[0]
