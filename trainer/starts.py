"""Where a run may begin: warm, shrunk and perturbed, or cold. How one is chosen by trial is in `trainer.probe`."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from schemas.training import Initialisation, ShrinkPerturb, StartName
from trainer.model_state import ModelState


@dataclass(frozen=True)
class Start:
    """The state that a run begins with.

    Attributes:
        name: What is done.
        state: Weights and optimizer variables to begin with.
        base: The base model's state, moved to today's model, which regularisation holds on to; None for a cold start.
        line_length: Warm starts since the line's cold start, this one included; 0 for a cold start.
    """

    name: StartName
    state: ModelState
    base: ModelState | None
    line_length: int


def possible_starts(
    asked: Initialisation,
    *,
    fresh: ModelState,
    moved: ModelState | None,
    trainable: Collection[str],
    options: ShrinkPerturb,
    line_length: int,
) -> tuple[Start, ...]:
    """Return the starts that a run may take: the one asked for, or for `auto` all three, in the order of preference.

    Args:
        asked: What the plan asks for.
        fresh: State of the model as built.
        moved: State carried over from the base model; None where there is none, and only `cold` is possible.
        trainable: Paths of the trainable weights.
        options: How to shrink and perturb.
        line_length: Warm starts since the line's cold start, this one included.
    """
    starts = [Start("cold", fresh, None, 0)]
    if moved is not None:
        perturbed = shrunk_and_perturbed(moved, fresh, trainable, options)
        starts = [
            Start("warm", moved, moved, line_length),
            Start("shrink_perturb", perturbed, moved, line_length),
            *starts,
        ]
    return tuple(start for start in starts if asked in ("auto", start.name))


def shrunk_and_perturbed(
    base: ModelState, fresh: ModelState, trainable: Collection[str], options: ShrinkPerturb
) -> ModelState:
    """Return `shrink * base + perturb * fresh` for the trainable weights, and the base's state for all else.

    Statistics of BatchNormalization describe data, which a smaller weight does not change, so they stay. So do the
    optimizer's slots and step count: Adam's squared gradients give every weight its step length, which a cold optimizer
    would have to find again, and its momenta have forgotten the old weights' gradients after some ten steps.

    Source:
        Ash and Adams, On Warm-Starting Neural Network Training, NeurIPS 2020, section 4.
    """
    mixed = {
        path: (options.shrink * base.weights[path] + options.perturb * fresh.weights[path]).astype(
            base.weights[path].dtype
        )
        for path in trainable
    }
    return replace(base, weights={**base.weights, **mixed})
