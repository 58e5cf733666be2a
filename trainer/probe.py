"""Which start is best for a run, found out by trying each for a few steps. What the starts are is in `trainer.starts`.

Starts are compared on the held-out part of the *train* split, although the newest eval split would do as well: that is
the gate's, and a candidate that was chosen by it would look better there than it is.
"""

import math
from collections.abc import Sequence

from core.errors import TrainingError
from schemas.base import Record
from schemas.training import StartName, TrainingOptions
from trainer.conditions import conditions
from trainer.input_data import TrainingData
from trainer.learner import Learner
from trainer.starts import Start


class ProbeResult(Record):
    """What a probe found.

    Attributes:
        winner: The start with the lowest loss, the first of equals.
        why: The losses of all starts, in a sentence.
    """

    winner: StartName
    why: str


def probe(
    learner: Learner, starts: Sequence[Start], data: TrainingData, options: TrainingOptions, *, seed: int
) -> ProbeResult:
    """Train every start for a few steps on the newest examples and compare losses on the held-out ones.

    The model is left as the last start has it; a run begins by putting it where it starts.

    Args:
        learner: Trains and validates.
        starts: In the order of preference among equals.
        data: The run's data. Replayed examples are left out: new ones are what tells the starts apart.
        options: What the config asks for.
        seed: The run's; the same random numbers for every start.

    Raises:
        TrainingError: no start has a finite loss.
    """
    losses = {start.name: _loss_after(learner, start, data, options, seed) for start in starts}
    finite = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
    tried = (
        f"after {options.probe.num_steps} steps on the newest {data.num_newest(options.probe.num_examples)} examples "
        f"the loss on {data.num_validation_examples} held-out ones was "
        f"{', '.join(f'{loss:.6g} ({name})' for name, loss in losses.items())}"
    )
    if not finite:
        raise TrainingError(
            f"No start can be trained: {tried}. Expected a finite loss; received none. "
            "Lower learning_rate, set clipnorm, or look for absurd values in the data."
        )
    winner = min(finite, key=lambda name: finite[name])
    return ProbeResult(winner=winner, why=f"The probe chose {winner}: {tried}.")


def _loss_after(learner: Learner, start: Start, data: TrainingData, options: TrainingOptions, seed: int) -> float:
    num_steps = options.probe.num_steps
    with conditions(learner, start, options, num_steps=num_steps):
        learner.begin_epoch(seed, 0)
        try:
            learner.train(data.newest(options.probe.num_examples, num_steps))
        except TrainingError:
            return math.nan
        return learner.evaluate(data.validation())["loss"]
