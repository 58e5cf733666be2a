"""One function per kind of feature: from raw column to the tensors that `schemas.transformed` promises.

Not here: which features there are (`transform.preprocessing`) and how raw tensors come (`transform.raw_tensors`).
"""

import math

import tensorflow as tf
import tensorflow_transform as tft

from schemas.features import BucketizedFeature, CyclicFeature, HashedFeature, NumericFeature, VocabularyFeature
from schemas.transformed import COS_SUFFIX, MISSING_SUFFIX, PADDING_ID, SIN_SUFFIX
from transform.raw_tensors import RawTensor, numbers, tokens


def numeric_inputs(specs: dict[str, NumericFeature], columns: dict[str, RawTensor]) -> dict[str, tf.Tensor]:
    """Return z-scores of all numeric features, analysed together: one Beam analysis instead of one per feature.

    Mean and variance ignore missing and infinite values. A missing value becomes the mean, 0; an infinite or absurd one
    is clipped. Computed in float64, where the square of any float32 is finite.

    Returns:
        Per feature, and per asked-for missing indicator, shape `(batch, 1)`, float32.
    """
    if not specs:
        return {}
    raw = tf.concat([numbers(name, columns[name]) for name in specs], axis=1)
    scores = tft.scale_to_z_score(raw, elementwise=True)
    outputs = {}
    for index, (name, spec) in enumerate(specs.items()):
        score = scores[:, index : index + 1]
        is_missing = tf.math.is_nan(score)
        clipped = tf.where(is_missing, tf.zeros_like(score), tf.clip_by_value(score, -spec.clip, spec.clip))
        outputs[name] = tf.cast(clipped, tf.float32)
        if spec.missing_indicator:
            outputs[name + MISSING_SUFFIX] = tf.cast(is_missing, tf.float32)
    return outputs


def bucketized_inputs(name: str, spec: BucketizedFeature, column: RawTensor) -> dict[str, tf.Tensor]:
    """Return quantile buckets, shape `(batch, 1)`, int64 in [0, num_buckets]; the last is for missing values."""
    raw = numbers(name, column)
    finite = tf.boolean_mask(raw, tf.math.is_finite(raw))
    # 100 times finer than a bucket, the precision that tft.bucketize itself uses.
    boundaries = tft.quantiles(tf.cast(finite, tf.float32), spec.num_buckets, epsilon=0.01 / spec.num_buckets)
    is_missing = tf.math.is_nan(raw)
    known = tf.cast(tf.where(is_missing, tf.zeros_like(raw), raw), tf.float32)
    buckets = tft.apply_buckets(known, boundaries)
    return {name: tf.where(is_missing, tf.constant(spec.num_buckets, tf.int64), buckets)}


def vocabulary_inputs(name: str, spec: VocabularyFeature, column: RawTensor) -> dict[str, tf.Tensor]:
    """Return ids by descending frequency, shape `(batch, num_values)`, int64.

    Ids of unknown tokens begin at `capacity`, not after the last known token, so that a vocabulary which grows later
    leaves them in place. The vocabulary file is named like the feature.
    """
    values = tokens(name, column, spec.max_values if spec.multivalued else 1)
    vocabulary = tft.vocabulary(
        values, top_k=spec.capacity, frequency_threshold=spec.min_frequency, vocab_filename=name
    )
    known = tft.apply_vocabulary(values, vocabulary, default_value=-1)
    unknown = spec.capacity + tf.strings.to_hash_bucket_fast(values, spec.num_oov_buckets)
    return {name: _padded(values, tf.where(known < 0, unknown, known))}


def hashed_inputs(name: str, spec: HashedFeature, column: RawTensor) -> dict[str, tf.Tensor]:
    """Return hash buckets (FarmHash, stable over processes), shape `(batch, num_values)`, int64."""
    values = tokens(name, column, spec.max_values if spec.multivalued else 1)
    return {name: _padded(values, tf.strings.to_hash_bucket_fast(values, spec.num_buckets))}


def cyclic_inputs(name: str, spec: CyclicFeature, column: RawTensor) -> dict[str, tf.Tensor]:
    """Return the point on the circle, two of shape `(batch, 1)`, float32; the centre for missing or infinite values."""
    raw = numbers(name, column)
    is_known = tf.math.is_finite(raw)
    # The remainder first: sine and cosine of a huge angle are noise.
    angle = tf.math.floormod(tf.where(is_known, raw, tf.zeros_like(raw)), spec.period) * (2 * math.pi / spec.period)
    return {
        name + suffix: tf.cast(tf.where(is_known, function(angle), tf.zeros_like(angle)), tf.float32)
        for suffix, function in ((SIN_SUFFIX, tf.sin), (COS_SUFFIX, tf.cos))
    }


def _padded(values: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    return tf.where(values == "", tf.constant(PADDING_ID, tf.int64), ids)
