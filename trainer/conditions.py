"""Under what conditions a run trains: where it begins, its learning rate, what is frozen, what it is held near.

The conditions of a run end with it, so that a saved model bears no trace of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

import keras

from core.errors import ConfigError
from schemas.training import TrainingOptions
from trainer.learner import Learner
from trainer.model_state import assign_state
from trainer.objective import strengths
from trainer.optimizer import run_rate
from trainer.starts import Start

MAX_RENDERED_LAYERS = 20


@contextmanager
def conditions(learner: Learner, start: Start, options: TrainingOptions, *, num_steps: int) -> Iterator[None]:
    """Put the model where a run begins and under its conditions; layers thaw and the anchor goes when it ends.

    Args:
        learner: Its model's optimizer is built for all trainable weights.
        start: Where the run begins; frozen layers and regularisation are for warm ones.
        options: What the config asks for.
        num_steps: Steps that the run may take.

    Raises:
        ConfigError: `freeze` names a layer that the model does not have, or leaves nothing to train.
    """
    model = learner.model
    # Looked up for a cold run too: a wrong name should not wait for the first warm one.
    named = layers_to_freeze(model, options.freeze)
    frozen = named if start.base is not None else []
    assign_state(model, start.state)
    model.schedule.begin(run_rate(options, start.line_length), int(model.optimizer.iterations.numpy()), num_steps)
    if start.base is not None and strengths(options.regularisation):
        model.anchor = learner.anchor(options.regularisation)
        model.anchor.assign(start.base.weights, start.base.fisher)
    _set_trainable(frozen, is_trainable=False)
    try:
        yield
    finally:
        # The optimizer has slots for frozen layers too, and Keras loads those only into a model in which nothing is
        # frozen.
        _set_trainable(frozen, is_trainable=True)
        model.anchor = None


def layers_to_freeze(model: keras.Model, patterns: Sequence[str]) -> list[keras.layers.Layer]:
    """Return the layers whose names match.

    Raises:
        ConfigError: a pattern matches no layer with weights, or all layers match.
    """
    layers = {layer.name: layer for layer in model.layers if layer.trainable and layer.trainable_weights}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ConfigError(_no_such_layer(pattern, list(layers)))
    frozen = [layer for name, layer in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if patterns and len(frozen) == len(layers):
        raise ConfigError(
            f"Nothing is left to train. Expected training.freeze to leave a layer; received freeze={list(patterns)}, "
            f"which matches all of {_shown(list(layers))}. Freeze fewer, or add model.extension_units."
        )
    return frozen


def _no_such_layer(pattern: str, names: list[str]) -> str:
    close = get_close_matches(pattern, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"Pattern {pattern!r} of training.freeze matches no layer. Expected patterns of {_shown(names)}; received "
        f"{pattern!r}. Correct the pattern{hint}."
    )


def _shown(names: list[str]) -> str:
    rest = f" and {len(names) - MAX_RENDERED_LAYERS} more" if len(names) > MAX_RENDERED_LAYERS else ""
    return f"{names[:MAX_RENDERED_LAYERS]}{rest}"


def _set_trainable(layers: Sequence[keras.layers.Layer], *, is_trainable: bool) -> None:
    for layer in layers:
        layer.trainable = is_trainable
