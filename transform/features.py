"""One function per kind of feature: from raw column to the tensors that `schemas.transformed` promises.

Not here: which features there are (`transform.preprocessing`) and how raw tensors come (`transform.raw_tensors`).
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from core.errors import ConfigError
from schemas.analysis import (
    BUCKETS_ANALYSIS_SUFFIX,
    NUMERIC_ANALYSIS_SUFFIX,
    BucketAnalysis,
    NumericAnalysis,
    VocabularyAnalysis,
    token_bytes,
)
from schemas.features import BucketizedFeature, CyclicFeature, HashedFeature, NumericFeature, VocabularyFeature
from schemas.transformed import COS_SUFFIX, MISSING_SUFFIX, PADDING_ID, SIN_SUFFIX
from transform.raw_tensors import RawTensor, numbers, tokens
from transform.vocabulary import kept_tokens

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)
_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
# Stands where a numeric feature has no base, so that the features can be computed together.
_NO_BASE = NumericAnalysis(mean=0, scale=1, missing_value=0, low=0, high=0)


def numeric_inputs(
    specs: dict[str, NumericFeature], columns: dict[str, RawTensor], base: Mapping[str, NumericAnalysis]
) -> dict[str, tf.Tensor]:
    """Return scaled numbers of all numeric features, analysed together: one Beam analysis instead of one per feature.

    Mean and variance ignore missing and infinite values; values without spread keep their base's, or are not scaled. A
    missing value becomes the mean of the cold start; an infinite or absurd one is clipped. Computed in float64, where
    the square of any float32 is finite.

    Args:
        specs: All numeric features.
        columns: Raw columns.
        base: What the features were analysed to before, for those that are refreshed.

    Returns:
        Per feature, and per asked-for missing indicator, shape `(batch, 1)`, float32. Per feature, what it was
        analysed to, shape `(batch, 5)`.
    """
    if not specs:
        return {}
    raw = tf.concat([numbers(name, columns[name]) for name in specs], axis=1)
    scaling = _scaling(specs, raw, base)
    mean, scale, missing_value, low, high = tf.unstack(tf.cast(scaling, tf.float64))
    is_missing = tf.math.is_nan(raw)
    values = tf.clip_by_value(tf.where(is_missing, missing_value, raw), low, high)
    scores = tf.cast((values - mean) / scale, tf.float32)
    names = list(specs)
    outputs = dict(zip(names, tf.split(scores, len(names), axis=1), strict=True))
    analysed = _in_every_row(tf.reshape(tf.transpose(scaling), (-1,)), raw)
    for name, rows in zip(names, tf.split(analysed, len(names), axis=1), strict=True):
        outputs[name + NUMERIC_ANALYSIS_SUFFIX] = rows
    indicators = tf.split(tf.cast(is_missing, tf.float32), len(names), axis=1)
    for name, indicator in zip(names, indicators, strict=True):
        if specs[name].missing_indicator:
            outputs[name + MISSING_SUFFIX] = indicator
    return outputs


def _scaling(specs: Mapping[str, NumericFeature], raw: tf.Tensor, base: Mapping[str, NumericAnalysis]) -> tf.Tensor:
    """Return mean, scale, missing value, low and high, shape `(5, num_features)`, float32.

    In float32, and used as rounded, so that a model can read back exactly what the graph does.
    """
    known = [base.get(name, _NO_BASE) for name in specs]
    is_new = np.array([name not in base for name in specs])
    base_mean, base_scale, *base_constants = np.array(
        [[item.mean, item.scale, item.missing_value, item.low, item.high] for item in known]
    ).T
    _, low, high = base_constants
    # A refresh analyses what the model will see: one absurd value would leave all others no digits to differ in.
    seen = tf.where(is_new | ~tf.math.is_finite(raw), raw, tf.clip_by_value(raw, low, high))
    reach = np.array([spec.clip for spec in specs.values()])
    mean, deviation = tft.mean(seen, reduce_instance_dims=False), tf.sqrt(tft.var(seen, reduce_instance_dims=False))
    # False where there is no value, and where all are equal as far as float32 can tell.
    is_scalable = deviation >= tf.maximum(_FLOAT32_EPSILON * tf.abs(mean), _FLOAT32_TINY)
    mean = tf.where(is_scalable | (is_new & tf.math.is_finite(mean)), mean, base_mean)
    scale = tf.where(is_scalable, deviation, base_scale)
    constants = [
        tf.where(is_new, analysed, constant)
        for analysed, constant in zip((mean, mean - reach * scale, mean + reach * scale), base_constants, strict=True)
    ]
    scaling = tf.stack([mean, scale, *constants])
    return tf.cast(tf.clip_by_value(scaling, -_FLOAT32_MAX, _FLOAT32_MAX), tf.float32)


def bucketized_inputs(
    name: str, spec: BucketizedFeature, column: RawTensor, base: BucketAnalysis | None
) -> dict[str, tf.Tensor]:
    """Return buckets and their boundaries: quantiles, or the base's.

    Returns:
        Shape `(batch, 1)`, int64 in [0, num_buckets]; the last is for missing values. The boundaries, shape
        `(batch, num_buckets - 1)`, float32.

    Raises:
        ConfigError: the base has another number of buckets.
    """
    raw = numbers(name, column)
    boundaries = _quantiles(spec, raw) if base is None else _constant_boundaries(name, spec, base)
    is_missing = tf.math.is_nan(raw)
    known = tf.cast(tf.where(is_missing, tf.zeros_like(raw), raw), tf.float32)
    buckets = tft.apply_buckets(known, boundaries)
    return {
        name: tf.where(is_missing, tf.constant(spec.num_buckets, tf.int64), buckets),
        name + BUCKETS_ANALYSIS_SUFFIX: _in_every_row(boundaries[0], raw),
    }


def _quantiles(spec: BucketizedFeature, raw: tf.Tensor) -> tf.Tensor:
    finite = tf.boolean_mask(raw, tf.math.is_finite(raw))
    # 100 times finer than a bucket, the precision that tft.bucketize itself uses.
    return tft.quantiles(tf.cast(finite, tf.float32), spec.num_buckets, epsilon=0.01 / spec.num_buckets)


def _constant_boundaries(name: str, spec: BucketizedFeature, base: BucketAnalysis) -> tf.Tensor:
    if len(base.boundaries) != spec.num_buckets - 1:
        raise ConfigError(
            f"Feature {name!r} has another number of buckets than the base model. Expected "
            f"num_buckets={len(base.boundaries) + 1}; received num_buckets={spec.num_buckets}. "
            "Restore the number in the config, or plan a cold start."
        )
    return tf.constant([base.boundaries], tf.float32)


def vocabulary_inputs(
    name: str, spec: VocabularyFeature, column: RawTensor, base: VocabularyAnalysis | None
) -> dict[str, tf.Tensor]:
    """Return ids, of new tokens by descending frequency after those of the base, shape `(batch, num_values)`, int64.

    Ids of unknown tokens begin at `capacity`, not after the last known token, so that a vocabulary which grows later
    leaves them in place. The vocabulary file is named like the feature; lines from `capacity` on are not used.
    """
    values = tokens(name, column, spec.max_values if spec.multivalued else 1)
    kept = () if base is None else kept_tokens(base, spec.capacity, spec.min_frequency)
    # `top_k` counts tokens of this window, reserved ones included, before those are put in front of it. So it finds
    # all that still fit, and some too many.
    vocabulary = tft.vocabulary(
        values,
        top_k=spec.capacity,
        frequency_threshold=spec.min_frequency,
        vocab_filename=name,
        reserved_tokens=[token_bytes(token) for token in kept] or None,
    )
    ids = tft.apply_vocabulary(values, vocabulary, default_value=-1)
    unknown = spec.capacity + tf.strings.to_hash_bucket_fast(values, spec.num_oov_buckets)
    return {name: _padded(values, tf.where((ids < 0) | (ids >= spec.capacity), unknown, ids))}


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


def _in_every_row(row: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Return `row` of shape `(k,)` once for each row of `batch`, shape `(batch, k)`."""
    return tf.tile(row[tf.newaxis, :], (tf.shape(batch)[0], 1))
