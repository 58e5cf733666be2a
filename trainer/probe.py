"""Which start is best for a run, found out by trying each for a few steps. What the starts are is in `trainer.starts`.

Starts are compared on the held-out part of the *train* split, although the newest eval split would do as well: that is
the gate's, and a candidate that was chosen by it would look better there than it is.
"""

import math
from collections.abc import Sequence

from core.errors import TrainingError
from schemas.base import Record
from schemas.training import StartName, TrainingOptions
from trainer.callbacks import EpochSeeds
from trainer.conditions import conditions
from trainer.heads import Head
from trainer.input_data import TrainingData
from trainer.objective import AnchoredModel
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
    model: AnchoredModel, starts: Sequence[Start], data: TrainingData, options: TrainingOptions, *, head: Head
) -> ProbeResult:
    """Train every start for a few steps on the newest examples and compare losses on the held-out ones.

    The model is left as the last start has it; a run begins by putting it where it starts.

    Args:
        model: Compiled.
        starts: In the order of preference among equals.
        data: The run's data. Replayed examples are left out: new ones are what tells the starts apart.
        options: What the config asks for.
        head: The model's head.

    Raises:
        TrainingError: no start has a finite loss.
    """
    losses = {start.name: _loss_after(model, start, data, options, head) for start in starts}
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


def _loss_after(model: AnchoredModel, start: Start, data: TrainingData, options: TrainingOptions, head: Head) -> float:
    num_steps = options.probe.num_steps
    batches = data.newest(options.probe.num_examples, num_steps)
    with conditions(model, start, options, head=head, num_steps=num_steps):
        model.fit(batches, steps_per_epoch=num_steps, callbacks=[EpochSeeds()], shuffle=False, verbose=0)
        logs = model.evaluate(data.validation(), steps=data.validation_steps, return_dict=True, verbose=0)
    return float(logs["loss"])
