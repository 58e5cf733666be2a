"""The transform in memory: what `transform/` does on Beam, on a pandas frame and in milliseconds.

In here: analysing a frame, refreshing an analysis, applying it. The meaning of every value is that of
`schemas.analysis` and `transform.features`; a test holds the two together. Multi-valued features are not in here, the
study has none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from schemas.analysis import Analysis, BucketAnalysis, FeatureAnalysis, NumericAnalysis, VocabularyAnalysis
from schemas.features import (
    BucketizedFeature,
    CyclicFeature,
    FeatureSet,
    FeatureSpec,
    HashedFeature,
    NumericFeature,
    VocabularyFeature,
)
from schemas.transformed import COS_SUFFIX, MISSING_SUFFIX, SIN_SUFFIX
from transform.vocabulary import kept_tokens

Array = NDArray[Any]
Arrays = dict[str, Array]


def analyse(frame: pd.DataFrame, feature_set: FeatureSet, base: Analysis | None = None) -> Analysis:
    """Analyse a window: anew, or as a refresh of `base`.

    Args:
        frame: Raw columns by name.
        feature_set: What to analyse them for.
        base: What the base model's transform knows; None for a cold start.
    """
    known = {} if base is None else base.features
    features: dict[str, FeatureAnalysis] = {}
    for name, spec in feature_set.features.items():
        match spec, known.get(name):
            case NumericFeature(), NumericAnalysis() | None as before:
                features[name] = _numeric(spec, frame[name], before)
            case BucketizedFeature(), BucketAnalysis() | None as before:
                features[name] = before or _buckets(spec, frame[name])
            case VocabularyFeature(), VocabularyAnalysis() | None as before:
                features[name] = _vocabulary(spec, frame[name], before)
    return Analysis(features=features)


def counted(analysis: Analysis, frame: pd.DataFrame, feature_set: FeatureSet) -> Analysis:
    """Return the analysis with a span's tokens added to the counts, as every training run leaves it."""
    features = dict(analysis.features)
    for name, item in analysis.features.items():
        spec = feature_set.features[name]
        if isinstance(item, VocabularyAnalysis) and isinstance(spec, VocabularyFeature):
            counts = _token_counts(frame[name])
            total = {token: count + counts.pop(token, 0) for token, count in zip(item.tokens, item.counts, strict=True)}
            features[name] = VocabularyAnalysis(
                tokens=item.tokens,
                counts=tuple(total.values()),
                candidates=_most_frequent(_sum(item.candidates, counts), spec.capacity),
            )
    return Analysis(features=features)


def apply(frame: pd.DataFrame, analysis: Analysis, feature_set: FeatureSet) -> Arrays:
    """Return the model's inputs by name, shape `(num_examples, 1)`: float32, or int64 for ids."""
    outputs: Arrays = {}
    for name, spec in feature_set.features.items():
        outputs |= _applied(name, spec, frame[name], analysis.features.get(name))
    return {name: values.reshape(-1, 1) for name, values in outputs.items()}


def _applied(name: str, spec: FeatureSpec, column: pd.Series, item: FeatureAnalysis | None) -> Arrays:
    match spec, item:
        case NumericFeature(), NumericAnalysis():
            raw = column.to_numpy(np.float64)
            values = np.clip(np.where(np.isnan(raw), item.missing_value, raw), item.low, item.high)
            outputs = {name: ((values - item.mean) / item.scale).astype(np.float32)}
            if spec.missing_indicator:
                outputs[name + MISSING_SUFFIX] = np.isnan(raw).astype(np.float32)
            return outputs
        case BucketizedFeature(), BucketAnalysis():
            raw = column.to_numpy(np.float32)
            buckets = np.searchsorted(np.asarray(item.boundaries, np.float32), raw, side="right")
            return {name: np.where(np.isnan(raw), spec.num_buckets, buckets).astype(np.int64)}
        case VocabularyFeature(), VocabularyAnalysis():
            return {name: _ids(column, item.tokens, spec)}
        case HashedFeature(), _:
            codes, tokens = pd.factorize(column)
            return {name: _hashes(tokens, spec.num_buckets)[codes]}
        case CyclicFeature(), _:
            return _cyclic(name, spec, column.to_numpy(np.float64))
    raise ValueError(f"Feature {name!r} of kind {spec.kind!r} was analysed to {item!r}. Analyse it with its own spec.")


def _numeric(spec: NumericFeature, column: pd.Series, before: NumericAnalysis | None) -> NumericAnalysis:
    values = column.to_numpy(np.float64)
    values = values[np.isfinite(values)]
    mean, scale = (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
    is_scalable = scale >= np.finfo(np.float32).tiny
    if before is not None:
        changed = {"mean": _float32(mean), "scale": _float32(scale)} if is_scalable else {}
        return before.model_copy(update=changed)
    scale = scale if is_scalable else 1.0
    reach = spec.clip * scale
    values32 = (_float32(value) for value in (mean, scale, mean, mean - reach, mean + reach))
    mean, scale, missing_value, low, high = values32
    return NumericAnalysis(mean=mean, scale=scale, missing_value=missing_value, low=low, high=high)


def _buckets(spec: BucketizedFeature, column: pd.Series) -> BucketAnalysis:
    values = column.to_numpy(np.float64)
    shares = np.arange(1, spec.num_buckets) / spec.num_buckets
    # An observed value, as TFT's sketch returns one.
    quantiles = np.quantile(values[np.isfinite(values)], shares, method="inverted_cdf")
    return BucketAnalysis(boundaries=tuple(_float32(value) for value in quantiles))


def _vocabulary(spec: VocabularyFeature, column: pd.Series, before: VocabularyAnalysis | None) -> VocabularyAnalysis:
    """Take in the window's tokens; those of a base were counted when they were trained on."""
    counts = {token: count for token, count in _token_counts(column).items() if count >= spec.min_frequency}
    if before is None:
        kept: tuple[str, ...] = ()
        known: dict[str, int] = {}
    else:
        kept = kept_tokens(before, spec.capacity, spec.min_frequency)
        known = {**dict(zip(before.tokens, before.counts, strict=True)), **before.candidates}
    new = [token for token in counts if token not in set(kept)]
    tokens = (*kept, *new)[: spec.capacity]
    left = {token: known.get(token, count) for token, count in (counts | known).items() if token not in set(tokens)}
    return VocabularyAnalysis(
        tokens=tokens,
        counts=tuple(known.get(token, counts.get(token, 0)) for token in tokens),
        candidates=_most_frequent(left, spec.capacity),
    )


def _token_counts(column: pd.Series) -> dict[str, int]:
    """Return tokens by descending frequency; of equal ones TFT puts the greater token first."""
    values, counts = np.unique(column.dropna().to_numpy(str), return_counts=True)
    order = np.argsort(counts, kind="stable")[::-1]
    found = {str(values[index]): int(counts[index]) for index in order}
    found.pop("", None)
    return found


def _most_frequent(counts: Mapping[str, int], capacity: int) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:capacity])


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {token: first.get(token, 0) + second.get(token, 0) for token in first.keys() | second.keys()}


def _ids(column: pd.Series, vocabulary: tuple[str, ...], spec: VocabularyFeature) -> Array:
    codes, tokens = pd.factorize(column)
    known = pd.Index(vocabulary, dtype=object).get_indexer(tokens)
    ids = np.where(known < 0, spec.capacity + _hashes(tokens, spec.num_oov_buckets), known)
    # A missing value has code -1, which is PADDING_ID.
    return np.asarray(np.append(ids, -1)[codes], np.int64)


def _hashes(tokens: Any, num_buckets: int) -> Array:
    hashes: Array = tf.strings.to_hash_bucket_fast(np.asarray(tokens, dtype=str).tolist(), num_buckets).numpy()
    return hashes


def _cyclic(name: str, spec: CyclicFeature, raw: Array) -> Arrays:
    is_known = np.isfinite(raw)
    angle = np.mod(np.where(is_known, raw, 0.0), spec.period) * (2 * np.pi / spec.period)
    return {
        name + SIN_SUFFIX: np.where(is_known, np.sin(angle), 0).astype(np.float32),
        name + COS_SUFFIX: np.where(is_known, np.cos(angle), 0).astype(np.float32),
    }


def _float32(value: float) -> float:
    return float(np.float32(value))
