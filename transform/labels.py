"""The label as the loss wants it. A label that is missing or unknown stays recognisable; the trainer refuses it."""

import tensorflow as tf

from schemas.features import LabelSpec
from transform.raw_tensors import RawTensor, numbers, tokens

UNKNOWN_CLASS = -1


def label_output(spec: LabelSpec, column: RawTensor) -> tf.Tensor:
    """Return the label, shape `(batch, 1)`.

    Returns:
        Multiclass: int64 index into `classes`, -1 for a missing or unlisted value. Otherwise float32, NaN where
        missing.
    """
    if spec.task != "multiclass":
        return tf.cast(numbers(spec.name, column), tf.float32)
    matches = tokens(spec.name, column, 1) == tf.constant(spec.classes)[tf.newaxis, :]
    index = tf.argmax(tf.cast(matches, tf.int64), axis=1, output_type=tf.int64)
    known = tf.reduce_any(matches, axis=1)
    return tf.where(known, index, tf.constant(UNKNOWN_CLASS, tf.int64))[:, tf.newaxis]
