"""A model that starts as its base model left off, however the transform graph was re-analysed, or a sentence why not.

Before the first gradient step it predicts what the base model predicted, for every example; only a token that left its
vocabulary, and is served from its out-of-vocabulary bucket from now on, may change a prediction. Every kind of model of
ours does this by the names of its layers. A user's own model (`custom`) gets the same if it names the layers that hold
one row per id of a vocabulary feature `embedding_<feature>` or `wide_<feature>`, and gives a missing value, id -1, no
token's row (as `trainer.layers.MaskedMeanEmbedding` does). Whether it predicts as before is then put to the test.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from core.digests import digest_of_folder
from core.errors import TrainingError
from schemas.analysis import Analysis
from schemas.carry_over import reason_against
from schemas.features import FeatureSet
from schemas.model_layout import KERAS_FILE
from schemas.training import FISHER_FILE, ModelShape, TrainingOptions
from schemas.transformed import model_inputs
from trainer.analysis import check_fits, load_analysis
from trainer.model import AFFINE_LAYER, EMBEDDING_PREFIX, EXTENSION_PREFIX, WIDE_LAYER, WIDE_PREFIX, extension_layers
from trainer.model_state import (
    COLD_START,
    MAX_RENDERED_DIFFERENCES,
    STEPS,
    Arrays,
    ModelState,
    assign_state,
    check_same_shapes,
    layer_of,
    shapes_of,
    slot_owner,
    state_of,
)
from trainer.preservation import check_preserved
from trainer.training_record import TrainingRecord, read_training_record
from trainer.weight_moves import Role, WeightMoves


@dataclass(frozen=True)
class BaseModel:
    """What a warm start starts from: a model's numbers, how it was trained, and what its graph was analysed to."""

    state: ModelState
    record: TrainingRecord
    analysis: Analysis

    @property
    def shape(self) -> ModelShape:
        """Features and architecture that it was built from."""
        request = self.record.request
        return ModelShape(feature_set=request.feature_set, model=request.options.model)


def read_base_model(folder: Path, expected_digest: str | None) -> BaseModel:
    """Return the base model in a `Format-Training` folder.

    Args:
        folder: `Format-Training` of the base model.
        expected_digest: Digest that the folder had when it was trained, if known.

    Raises:
        TrainingError: the folder was changed, or something in it is missing or unreadable.
    """
    digest = digest_of_folder(folder) if folder.is_dir() else "no folder"
    if expected_digest is not None and digest != expected_digest:
        raise TrainingError(
            f"The base model in {folder} is corrupted or was exchanged. Expected digest {expected_digest}; received "
            f"{digest}. Restore the folder, or plan a cold start."
        )
    analysis = load_analysis(folder)
    try:
        record = read_training_record(folder)
        model = keras.saving.load_model(folder / KERAS_FILE, safe_mode=True)
        return BaseModel(state_of(model, _read_fisher(folder / FISHER_FILE)), record, analysis)
    # Keras raises whatever zip, JSON or HDF5 raise.
    except Exception as error:
        raise TrainingError(
            f"The base model in {folder} is corrupted. Expected a readable training folder; received "
            f"{type(error).__name__}: {error}. Restore the folder, or plan a cold start."
        ) from error


def carry_over(
    model: keras.Model,
    base: BaseModel,
    analysis: Analysis,
    feature_set: FeatureSet,
    options: TrainingOptions,
    *,
    fresh: ModelState | None = None,
) -> ModelState:
    """Give `model`, built from today's config, all that the base model knows, and return that state.

    Rebuilding rather than continuing the loaded object lets options such as the learning rate or dropout change.

    Args:
        model: Compiled, with its optimizer built.
        base: The base model.
        analysis: What the transform graph that `model` will be trained under was analysed to.
        feature_set: Features that `model` was built from.
        options: Options that `model` was built from.
        fresh: State of a freshly built model of today's config, which gives what is new its values; None: `model`'s.

    Raises:
        TrainingError: config or transform graph changed in a way that weights cannot follow.
    """
    check_fits(base.analysis, analysis, feature_set)
    shape = ModelShape(feature_set=feature_set, model=options.model)
    state = moved_state(
        base.state,
        base_shape=base.shape,
        base_analysis=base.analysis,
        shape=shape,
        analysis=analysis,
        fresh=fresh or state_of(model),
    )
    if options.model.kind == "custom":
        moves = WeightMoves(base.shape, base.analysis, shape, analysis)
        check_preserved(model, base.state, state, moves=moves, shape=shape)
    assign_state(model, state)
    return state


def moved_state(
    base: ModelState,
    *,
    base_shape: ModelShape,
    base_analysis: Analysis,
    shape: ModelShape,
    analysis: Analysis,
    fresh: ModelState,
) -> ModelState:
    """Return the base model's state as today's model has to hold it to predict the same under today's analysis.

    Vocabularies may have changed in any way, and means and scales; what `trainer.analysis.check_fits` calls constants
    must not have. A new token has the slots and the Fisher information of the bucket that served it until now.

    Args:
        base: State of the base model.
        base_shape: Features and architecture of the base model.
        base_analysis: What the base model's transform graph was analysed to.
        shape: Features and architecture of today's model.
        analysis: What today's transform graph was analysed to.
        fresh: State of a freshly built model of today's shape; gives what is new its values.

    Raises:
        TrainingError: config or transform graph changed in a way that weights cannot follow.
    """
    if reason := reason_against(base_shape, shape):
        raise TrainingError(f"The config changed since the base model was trained: {reason} {COLD_START}")
    moves = WeightMoves(base_shape, base_analysis, shape, analysis)
    if unfollowed := moves.unfollowed(base.weights):
        shown = dict(list(shapes_of(base.weights).items())[:MAX_RENDERED_DIFFERENCES])
        raise TrainingError(
            f"The vocabularies of {unfollowed} changed, and the model has no layer whose rows could follow them. "
            f"Expected, per feature, a layer named '{EMBEDDING_PREFIX}<feature>' or '{WIDE_PREFIX}<feature>' with a "
            f"weight of capacity + num_oov_buckets rows; received {shown}. Name it so in your model "
            "function and plan a cold start."
        )
    weights = _moved_weights(moves, base.weights, fresh.weights, _new_layers(base_shape, shape))
    return ModelState(weights, _moved_slots(moves, base, fresh), _moved_fisher(moves, base.fisher, weights))


def _read_fisher(file: Path) -> Arrays:
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _moved_weights(moves: WeightMoves, base: Arrays, fresh: Arrays, new_layers: frozenset[str]) -> Arrays:
    weights = moves.moved(base, Role.WEIGHT)
    for path, array in fresh.items():
        if path not in weights and layer_of(path) in new_layers:
            # What writes straight to the logits starts at zero, or predictions would change at once.
            weights[path] = np.zeros_like(array) if layer_of(path).startswith(WIDE_LAYER) else array
    check_same_shapes("weights", shapes_of(weights), shapes_of(fresh))
    return {path: weights[path].astype(array.dtype) for path, array in fresh.items()}


def _moved_slots(moves: WeightMoves, base: ModelState, fresh: ModelState) -> Arrays:
    """Return the slots of today's optimizer; those that the base model's did not have start as for a cold start."""
    of_role: dict[str, Arrays] = {Role.MOMENTUM: {}, Role.VELOCITY: {}}
    for slot, array in base.slots.items():
        owner, kind = slot_owner(slot, base.weights)
        if kind in of_role:
            of_role[kind][owner] = array
    moved = {role: moves.moved(arrays, Role(role)) for role, arrays in of_role.items()}
    slots = {}
    for slot, array in fresh.slots.items():
        owner, kind = slot_owner(slot, fresh.weights)
        value = base.slots.get(slot, array) if kind == STEPS else moved.get(kind, {}).get(owner, array)
        slots[slot] = value.astype(array.dtype)
    return slots


def _moved_fisher(moves: WeightMoves, base: Arrays, weights: Arrays) -> Arrays:
    """Return the Fisher information of today's weights; new ones have none, so nothing holds them."""
    if not base:
        return {}
    moved = moves.moved(base, Role.FISHER)
    return {path: moved.get(path, np.zeros_like(array)).astype(array.dtype) for path, array in weights.items()}


def _new_layers(base: ModelShape, current: ModelShape) -> frozenset[str]:
    """Return the layers that today's model may have and the base model not."""
    names = {item.name for item in model_inputs(current.feature_set)}
    added = names - {item.name for item in model_inputs(base.feature_set)}
    layers = {prefix + name for name in added for prefix in (EMBEDDING_PREFIX, WIDE_PREFIX)}
    if added:
        layers |= {WIDE_LAYER, AFFINE_LAYER}  # the first dense input and the first number bring these
    layers |= {EXTENSION_PREFIX + EMBEDDING_PREFIX + name for name in (added if base.model.extension_units else names)}
    return frozenset({*layers, *extension_layers(current.model)})
