"""A check on a user's own model, of which nobody knows how it uses its inputs: a warm start must predict as before."""

import keras
import numpy as np

from core.errors import TrainingError
from schemas.training import ModelShape
from schemas.transformed import PADDING_ID, IdInput, model_inputs
from trainer.model import EMBEDDING_PREFIX, WIDE_PREFIX
from trainer.model_state import Array, Arrays, ModelState, assign_state, shapes_of
from trainer.weight_moves import WeightMoves

NUM_EXAMPLES = 64
# Far above what float32 leaves after a change of scaling, and far below what a row of another token changes.
MAX_DIFFERENCE = 1e-3


def check_preserved(
    model: keras.Model, base: ModelState, moved: ModelState, *, moves: WeightMoves, shape: ModelShape
) -> None:
    """Check on random inputs that `model` predicts in the moved state what it predicts in the base state.

    Where the two have other shapes, e.g. after a change of capacity, there is nothing to compare.

    Args:
        model: Built of `shape`; its state afterwards is either.
        base: The base model's state.
        moved: The same, moved.
        moves: The moves from one to the other.
        shape: Today's shape.

    Raises:
        TrainingError: the predictions differ.
    """
    if shapes_of(base.weights) != shapes_of(moved.weights):
        return
    inputs = _random_inputs(shape, moves)
    expected = _predicted(model, ModelState(base.weights, moved.slots), moves.base_inputs(inputs))
    received = _predicted(model, moved, inputs)
    difference = np.max(np.abs(received - expected)) / max(1.0, np.max(np.abs(expected)))
    if difference > MAX_DIFFERENCE:
        raise TrainingError(
            f"The model of {shape.model.function!r} does not predict what it did before the transform graph was "
            f"refreshed. Expected a difference of at most {MAX_DIFFERENCE}; received {difference:.3g}. Name every "
            f"layer with a row per token '{EMBEDDING_PREFIX}<feature>' or '{WIDE_PREFIX}<feature>', give a missing "
            f"value, id {PADDING_ID}, no token's row, and plan a cold start."
        )


def _predicted(model: keras.Model, state: ModelState, inputs: Arrays) -> Array:
    assign_state(model, state)
    return np.asarray(model(inputs, training=False), np.float64)


def _random_inputs(shape: ModelShape, moves: WeightMoves) -> Arrays:
    """Return inputs as today's transform graph could give them: of ids only those that stand for something."""
    random = np.random.default_rng(0)
    inputs = {}
    for item in model_inputs(shape.feature_set):
        if isinstance(item, IdInput):
            ids = np.append(moves.used_rows(item), PADDING_ID)
            inputs[item.name] = random.choice(ids, (NUM_EXAMPLES, item.num_values))
        else:
            inputs[item.name] = random.normal(size=(NUM_EXAMPLES, 1)).astype(np.float32)
    return inputs
