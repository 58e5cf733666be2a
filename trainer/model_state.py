"""All numbers of a model as arrays by variable path, without Keras objects. How they move: `trainer.warm_start`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from core.errors import TrainingError

MAX_RENDERED_DIFFERENCES = 10
COLD_START = "Plan a cold start, or undo the change in the config."
STEPS = "iteration"  # how Keras calls the optimizer's count of steps
Array = NDArray[Any]
Arrays = dict[str, Array]
Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class ModelState:
    """What a trained model knows and what its optimizer remembers.

    Attributes:
        weights: By `variable.path`, trainable and not (statistics of BatchNormalization too). Random seeds are left
            out, as Keras leaves them out when it saves weights; they are a function of the epoch.
        slots: Optimizer variables by `variable.path` without the optimizer's name, to which Keras adds a number for
            every further optimizer of a process: step count, momenta, velocities.
        fisher: Diagonal Fisher information by weight path; may be empty.
    """

    weights: Arrays
    slots: Arrays
    fisher: Arrays = field(default_factory=dict)


def state_of(model: keras.Model, fisher: Mapping[str, Array] | None = None) -> ModelState:
    """Return copies of all weights and optimizer variables of a compiled model whose optimizer is built."""
    return ModelState(
        weights={variable.path: _copied(variable) for variable in model.weights},
        slots={_slot(variable): _copied(variable) for variable in model.optimizer.variables},
        fisher=dict(fisher or {}),
    )


def assign_state(model: keras.Model, state: ModelState) -> None:
    """Set all weights and optimizer variables of `model`, by path.

    Raises:
        TrainingError: a variable of the model is missing in the state, or has another shape there.
    """
    _assign("weights", {variable.path: variable for variable in model.weights}, state.weights)
    _assign("optimizer variables", {_slot(variable): variable for variable in model.optimizer.variables}, state.slots)


def slot_owner(slot: str, weights: Iterable[str]) -> tuple[str, str]:
    """Return the path of the weight that an optimizer variable belongs to, and what kind of variable it is.

    Keras joins the weight's path with `_` for `/`, `_` and the kind. Of several weights that fit, the longest is the
    owner, because one flattened path may be the beginning of another.

    Example:
        >>> slot_owner("hidden_0_kernel_momentum", ["hidden_0/kernel"])
        ('hidden_0/kernel', 'momentum')
        >>> slot_owner("iteration", ["hidden_0/kernel"])
        ('', 'iteration')
    """
    owner = max((path for path in weights if slot.startswith(path.replace("/", "_") + "_")), key=len, default="")
    return owner, slot[len(owner) + 1 :] if owner else slot


def layer_of(path: str) -> str:
    """Return the name of the innermost layer that a variable belongs to.

    Example:
        >>> layer_of("tower/embedding_origin/embeddings")
        'embedding_origin'
    """
    return path.rpartition("/")[0].rpartition("/")[2]


def check_same_shapes(what: str, base: Shapes, current: Shapes) -> None:
    """Raise a TrainingError that names paths and shapes, unless both have the same."""
    different = sorted(path for path in base.keys() | current.keys() if base.get(path) != current.get(path))
    if different:
        shown = {path: (base.get(path), current.get(path)) for path in different[:MAX_RENDERED_DIFFERENCES]}
        raise TrainingError(
            f"The config changed since the base model was trained: {len(different)} {what} differ. Expected equal "
            f"shapes; received, as base model's and today's: {shown}. {COLD_START}"
        )


def shapes_of(arrays: Arrays) -> Shapes:
    """Return the arrays' shapes by path."""
    return {path: list(array.shape) for path, array in arrays.items()}


def _copied(variable: keras.Variable) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


def _slot(variable: keras.Variable) -> str:
    return str(variable.path).partition("/")[2]


def _assign(what: str, variables: dict[str, keras.Variable], arrays: Arrays) -> None:
    current = {path: list(variable.shape) for path, variable in variables.items()}
    check_same_shapes(what, {path: shape for path, shape in shapes_of(arrays).items() if path in current}, current)
    for path, variable in variables.items():
        variable.assign(arrays[path])
