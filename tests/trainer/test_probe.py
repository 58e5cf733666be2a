"""The probe picks the start that learns best, by examples held out of the train split, and says why."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.errors import TrainingError
from schemas.training import TrainingOptions
from trainer.input_data import TrainingData
from trainer.learner import Learner
from trainer.model import build_model
from trainer.model_state import ModelState, state_of
from trainer.probe import ProbeResult, probe
from trainer.starts import Start

OPTIONS = TrainingOptions.model_validate({"model": {"kind": "linear"}, "probe": {"num_steps": 5, "num_examples": 300}})


@pytest.fixture(scope="module")
def learner(flights: Any) -> Learner:
    """A small model for the training data."""
    return Learner(build_model(flights.feature_set, OPTIONS), flights.feature_set, OPTIONS)


@pytest.fixture(scope="module")
def fresh(learner: Learner) -> ModelState:
    """Its state as built."""
    return state_of(learner.model)


@pytest.fixture(scope="module")
def absurd(fresh: ModelState) -> ModelState:
    """A state that a few steps cannot mend."""
    return dataclasses.replace(fresh, weights={path: array + 20 for path, array in fresh.weights.items()})


@pytest.fixture(scope="module")
def run(learner: Learner, training_data: TrainingData) -> Callable[..., ProbeResult]:
    """Probe starts."""

    def probed(*starts: Start) -> ProbeResult:
        return probe(learner, starts, training_data, OPTIONS, seed=0)

    return probed


def test_better_start_wins_in_either_order(run: Any, fresh: ModelState, absurd: ModelState) -> None:
    for warm, cold, winner in ((fresh, absurd, "warm"), (absurd, fresh, "cold")):
        result = run(Start("warm", warm, warm, 1), Start("cold", cold, None, 0))
        assert result.winner == winner
        assert result.why.startswith(
            f"The probe chose {winner}: after 5 steps on the newest 300 examples the loss on 100 held-out ones was "
        )
        losses = [float(part.split(" (")[0]) for part in result.why.split(" was ")[1].split(", ")]
        assert (losses[0] < losses[1]) == (winner == "warm")


def test_equal_starts_have_equal_losses_and_the_first_wins(run: Any, fresh: ModelState) -> None:
    result = run(Start("warm", fresh, fresh, 1), Start("shrink_perturb", fresh, fresh, 1))
    assert result.winner == "warm"
    losses = result.why.split(" was ")[1].rstrip(".").split(", ")
    assert losses[0].split(" (")[0] == losses[1].split(" (")[0]


def test_no_finite_loss_is_refused(run: Any, fresh: ModelState) -> None:
    broken = dataclasses.replace(fresh, weights={path: array * np.nan for path, array in fresh.weights.items()})
    with pytest.raises(TrainingError, match=r"No start can be trained.*nan \(warm\).*Expected a finite loss"):
        run(Start("warm", broken, broken, 1))
