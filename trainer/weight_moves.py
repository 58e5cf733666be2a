"""Where each number of a base model stands in today's model: rows by token, columns by feature, scales by z-score.

Index arithmetic on arrays, the same for weights, optimizer slots and Fisher information. Whether a move is possible at
all is in `schemas.carry_over`; reading and writing models is in `trainer.warm_start`.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from core.errors import TrainingError
from schemas.analysis import Analysis, NumericAnalysis, VocabularyAnalysis, token_bytes
from schemas.features import FeatureSet, VocabularyFeature
from schemas.training import ModelShape
from schemas.transformed import PADDING_ID, DenseInput, IdInput, model_inputs
from trainer.model import (
    AFFINE_LAYER,
    EMBEDDING_PREFIX,
    EXTENSION_PREFIX,
    WIDE_LAYER,
    WIDE_PREFIX,
    extension_layers,
    numeric_features,
)
from trainer.model_state import Array, Arrays, layer_of

NEW = -1  # the source of what the base model does not have
NEW_CLASSES_PROBABILITY = 0.01  # new classes start together with at most this, over the number of old classes, each
_SCALE, _OFFSET = f"{AFFINE_LAYER}/scale", f"{AFFINE_LAYER}/offset"
Indices = NDArray[np.int64]


class Role(StrEnum):
    """What an array holds, by which it follows its weight: the values are Adam's names for its slots."""

    WEIGHT = "weight"
    MOMENTUM = "momentum"  # a mean of gradients
    VELOCITY = "velocity"  # a mean of squared gradients
    FISHER = "fisher"


@dataclass(frozen=True)
class Gather:
    """A move along one axis.

    Attributes:
        axis: Axis of the weight.
        sources: Per index of today's axis, the index of the base model's, or `NEW`.
        base_size: Length of the base model's axis.
        new_weight: Weight at a new index; None: the mean over the base model's indices.
    """

    axis: int
    sources: Indices
    base_size: int
    new_weight: float | None = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether everything stays where it is."""
        (used,) = np.nonzero(self.sources != NEW)
        return bool(np.array_equal(self.sources[used], used))

    def fits(self, array: Array) -> bool:
        """Tell whether the array has the axis, as long as the base model has it."""
        return array.ndim > self.axis and array.shape[self.axis] == self.base_size

    def apply(self, array: Array, role: Role) -> Array:
        """Return the moved array.

        New weights have no momentum and no Fisher information; their mean squared gradient is that of the others, since
        Adam would make steps several times too long from zero, long after its bias correction has faded.
        """
        moved = np.take(array, np.maximum(self.sources, 0), axis=self.axis)
        if role is Role.VELOCITY or (role is Role.WEIGHT and self.new_weight is None):
            fill = array.mean(axis=self.axis, keepdims=True, dtype=np.float64)
        else:
            fill = np.float64(self.new_weight or 0.0 if role is Role.WEIGHT else 0.0)
        is_new = np.expand_dims(self.sources == NEW, [a for a in range(array.ndim) if a != self.axis % array.ndim])
        return np.where(is_new, fill, moved)


@dataclass(frozen=True)
class Rescaling:
    """The change of the numeric features' means and scales, shape `(n,)` each, in the order of the affine stage.

    With `z = (x - m) / s` before and `z' = (x - m') / s'` after, `a*z + b = a'*z' + b'` for every x if `a' = a * ratio`
    and `b' = b + a * step`, where `ratio = s' / s` and `step = (m' - m) / s`.
    """

    ratio: Array
    step: Array

    def apply(self, scale: Array, offset: Array, role: Role) -> tuple[Array, Array]:
        """Return what `scale` and `offset`, or their slots, become.

        `z' = (z - step) / ratio`, so the gradients become `g_a' = (g_a - step * g_b) / ratio` and `g_b' = g_b`. A
        momentum is linear in gradients and follows exactly, except that clipping may have cut the two unlike. Of
        squares the mixed term `g_a * g_b` was never kept, so theirs is the sum without it.
        """
        match role:
            case Role.WEIGHT:
                return scale * self.ratio, offset + scale * self.step
            case Role.MOMENTUM:
                return (scale - offset * self.step) / self.ratio, offset
            case Role.VELOCITY | Role.FISHER:
                return (scale + offset * self.step**2) / self.ratio**2, offset


class WeightMoves:
    """All moves from a base model to today's.

    Args:
        base: Shape of the base model.
        base_analysis: What the base model's transform graph was analysed to.
        shape: Today's shape, to which `schemas.carry_over` has no objection.
        analysis: What today's transform graph was analysed to.
    """

    def __init__(self, base: ModelShape, base_analysis: Analysis, shape: ModelShape, analysis: Analysis) -> None:
        self._rows = _row_moves(base.feature_set, base_analysis, shape.feature_set, analysis)
        self._by_variable: dict[str, list[Gather]] = defaultdict(list)
        for variable, gather in (*_column_moves(base, shape), *_class_moves(base, shape)):
            self._by_variable[variable].append(gather)
        self._numeric = numeric_features(shape.feature_set)
        self._rescaling = _rescaling(self._numeric, base_analysis, analysis)
        self._num_old_classes, num_classes = (len(s.feature_set.label.classes) for s in (base, shape))
        self._has_new_classes = num_classes > self._num_old_classes
        self._class_bias = f"{WIDE_LAYER}/bias" if base.model.kind == "linear" else "head/bias"

    def moved(self, arrays: Arrays, role: Role) -> Arrays:
        """Return arrays, by weight path, as today's model has them, float64; what only today's has is not in it."""
        moved = {path: self._gathered(path, array, role) for path, array in arrays.items()}
        if {_SCALE, _OFFSET} <= moved.keys():
            moved[_SCALE], moved[_OFFSET] = self._rescaling.apply(moved[_SCALE], moved[_OFFSET], role)
        if role is Role.WEIGHT and self._has_new_classes:
            # A new logit is the mean of the old ones and this: by Jensen's inequality its probability is at most this
            # one's exponential, over the number of old classes. Ratios of old probabilities stay exactly.
            moved[self._class_bias][self._num_old_classes :] += np.log(NEW_CLASSES_PROBABILITY)
        return moved

    def used_rows(self, item: IdInput) -> Indices:
        """Return the ids that today's transform graph may give for an input."""
        gather = self._rows.get(item.name)
        return np.arange(item.cardinality) if gather is None else np.flatnonzero(gather.sources != NEW)

    def base_inputs(self, inputs: Arrays) -> Arrays:
        """Return the inputs that the base model's transform graph gave for the raw values of today's `inputs`."""
        moved = dict(inputs)
        for name, gather in self._rows.items():
            moved[name] = np.where(inputs[name] == PADDING_ID, PADDING_ID, gather.sources[inputs[name]])
        for name, ratio, step in zip(self._numeric, self._rescaling.ratio, self._rescaling.step, strict=True):
            moved[name] = (inputs[name] * ratio + step).astype(np.float32)
        return moved

    def unfollowed(self, arrays: Arrays) -> list[str]:
        """Return features of which some token changed its row while no weight has their rows by our naming."""
        return [
            name
            for name, gather in self._rows.items()
            if not gather.is_identity
            and not any(
                # The extension does not count: it is ours in a user's own model too.
                layer_of(path) in _row_layers(name)[:2] and gather.fits(array)
                for path, array in arrays.items()
            )
        ]

    def _gathered(self, path: str, array: Array, role: Role) -> Array:
        layer, variable = layer_of(path), path.rpartition("/")[2]
        gathers = list(self._by_variable.get(f"{layer}/{variable}", ()))
        gathers += [gather for name, gather in self._rows.items() if layer in _row_layers(name)]
        moved: Array = array.astype(np.float64)
        for gather in gathers:
            moved = gather.apply(moved, role) if gather.fits(moved) else moved
        return moved


def token_sources(
    base: VocabularyAnalysis, base_capacity: int, current: VocabularyAnalysis, spec: VocabularyFeature
) -> Indices:
    """Return, per row of today's embedding, the base model's row that served its token until now.

    A token that is new to the vocabulary was served from its out-of-vocabulary bucket; the buckets stay.
    """
    row_of = {token: row for row, token in enumerate(base.tokens)}
    texts = [token_bytes(token) for token in current.tokens]
    buckets = tf.strings.to_hash_bucket_fast(tf.constant(texts, tf.string, shape=(len(texts),)), spec.num_oov_buckets)
    sources = np.full(spec.capacity + spec.num_oov_buckets, NEW, np.int64)
    for row, (token, bucket) in enumerate(zip(current.tokens, buckets.numpy(), strict=True)):
        sources[row] = row_of.get(token, base_capacity + bucket)
    sources[spec.capacity :] = base_capacity + np.arange(spec.num_oov_buckets)
    return sources


def column_sources(base: dict[str, int], current: dict[str, int]) -> Indices:
    """Return, per column of today's concatenation, the base model's column; both are widths by input, in order.

    Example:
        >>> column_sources({"a": 2, "b": 1}, {"b": 1, "new": 1, "a": 2})
        array([ 2, -1,  0,  1])
    """
    starts = dict(zip(base, np.cumsum([0, *base.values()]), strict=False))
    parts = [
        starts[name] + np.arange(width) if name in base else np.full(width, NEW) for name, width in current.items()
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _row_layers(feature: str) -> tuple[str, str, str]:
    return EMBEDDING_PREFIX + feature, WIDE_PREFIX + feature, EXTENSION_PREFIX + EMBEDDING_PREFIX + feature


def _row_moves(base: FeatureSet, base_analysis: Analysis, current: FeatureSet, analysis: Analysis) -> dict[str, Gather]:
    """Return the move of the rows of every vocabulary feature that both models have."""
    moves = {}
    for name, spec in current.features.items():
        old_spec = base.features.get(name)
        old, new = base_analysis.features.get(name), analysis.features.get(name)
        if not (isinstance(spec, VocabularyFeature) and isinstance(old_spec, VocabularyFeature)):
            continue
        if isinstance(old, VocabularyAnalysis) and isinstance(new, VocabularyAnalysis):
            if len(new.tokens) > spec.capacity:
                raise TrainingError(
                    f"The transform graph does not fit the config. Expected at most capacity={spec.capacity} tokens of "
                    f"{name!r}; received {len(new.tokens)}. Refresh the transform graph, or restore the capacity."
                )
            sources = token_sources(old, old_spec.capacity, new, spec)
            moves[name] = Gather(0, sources, old_spec.capacity + old_spec.num_oov_buckets)
    return moves


def _column_moves(base: ModelShape, current: ModelShape) -> list[tuple[str, Gather]]:
    """Return the moves of all kernels that read, or write, a concatenation of inputs."""
    if base.model.kind == "custom":
        return []  # its features are the same, in the same order
    deep = _gather_columns(_deep_columns(base.feature_set), _deep_columns(current.feature_set))
    dense = _gather_columns(_dense_columns(base.feature_set), _dense_columns(current.feature_set))
    affine = _gather_columns(*(dict.fromkeys(numeric_features(s.feature_set), 1) for s in (base, current)))
    reader = "hidden_0" if base.model.hidden_units else "head"
    moves = [(_SCALE, replace(affine, new_weight=1.0)), (_OFFSET, affine), (f"{WIDE_LAYER}/kernel", dense)]
    moves += [(f"{layer}/kernel", deep) for layer in (reader, *extension_layers(base.model)[:1])]
    for index in range(base.model.cross_layers):
        moves += [(f"cross_{index}/kernel", deep), (f"cross_{index}/kernel", replace(deep, axis=1))]
        moves += [(f"cross_{index}/bias", deep)]
    return moves


def _gather_columns(base: dict[str, int], current: dict[str, int]) -> Gather:
    return Gather(0, column_sources(base, current), sum(base.values()))


def _dense_columns(feature_set: FeatureSet) -> dict[str, int]:
    return {item.name: 1 for item in model_inputs(feature_set) if isinstance(item, DenseInput)}


def _deep_columns(feature_set: FeatureSet) -> dict[str, int]:
    """Return the widths that `trainer.model` joins: dense inputs first, then embeddings."""
    embeddings = {item.name: item.embedding_dim for item in model_inputs(feature_set) if isinstance(item, IdInput)}
    return {**_dense_columns(feature_set), **embeddings}


def _class_moves(base: ModelShape, current: ModelShape) -> list[tuple[str, Gather]]:
    """Return the moves of everything that writes one number per class; a new class is the mean of the old ones."""
    num_old, num_new = (len(shape.feature_set.label.classes) for shape in (base, current))
    if num_old == num_new:
        return []
    sources = np.concatenate([np.arange(num_old), np.full(num_new - num_old, NEW)])
    gather = Gather(-1, sources, num_old, new_weight=None)
    layers = ["head", *extension_layers(base.model)[-1:]]
    if base.model.kind != "custom":
        ids = [item.name for item in model_inputs(base.feature_set) if isinstance(item, IdInput)]
        layers += [WIDE_LAYER, *(WIDE_PREFIX + name for name in ids)]
    return [(f"{layer}/{variable}", gather) for layer in layers for variable in ("kernel", "bias", "embeddings")]


def _rescaling(names: list[str], base_analysis: Analysis, analysis: Analysis) -> Rescaling:
    ratios, steps = [], []
    for name in names:
        old, new = base_analysis.features.get(name), analysis.features.get(name)
        ratio, step = 1.0, 0.0
        if isinstance(old, NumericAnalysis) and isinstance(new, NumericAnalysis):
            ratio, step = new.scale / old.scale, (new.mean - old.mean) / old.scale
        ratios.append(ratio)
        steps.append(step)
    return Rescaling(np.array(ratios), np.array(steps))
