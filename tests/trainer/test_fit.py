"""A killed run ends like an undisturbed one; early stopping keeps the best epoch."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from schemas.training import ModelOptions, TrainingOptions
from trainer.batches import LoadedBatches
from trainer.checkpoint import Checkpoints, Progress
from trainer.fit import FitPlan, fit
from trainer.input_data import TrainingData
from trainer.learner import Learner
from trainer.model import build_model
from trainer.replayed_examples import read_replayed_examples

NUM_EPOCHS = 3
# Dropout, so that the state of its random numbers must survive as well.
OPTIONS = TrainingOptions(model=ModelOptions(kind="dnn", hidden_units=(8, 4), dropout=0.2), learning_rate=0.01)


class KillError(Exception):
    """Stands for a kill in the middle of an epoch."""


@dataclasses.dataclass(frozen=True)
class KillingData(TrainingData):
    """Raises before a step of an epoch."""

    kill_at: tuple[int, int] | None = None

    def training(self, epoch: int) -> Any:
        batches = super().training(epoch)
        return KillingBatches(**vars(batches), step=self.kill_at[1]) if (epoch, 0) == (self.epoch, 0) else batches

    @property
    def epoch(self) -> int | None:
        return None if self.kill_at is None else self.kill_at[0]


@dataclasses.dataclass(frozen=True)
class KillingBatches(LoadedBatches):
    """Raises before a step, and lets nobody take several at once."""

    step: int = 0

    def calls(self, num_steps: int) -> Iterator[tuple[Any, ...]]:
        for step, call in enumerate(super().calls(1)):
            if step == self.step:
                raise KillError
            yield call


@pytest.fixture(scope="module")
def attempt(flights: Any, make_data: Any, make_examples: Any, write_replay: Any, tmp_path_factory: Any) -> Any:
    """Run one attempt at a run from fresh weights, with replay; the checkpoints stay between attempts."""
    folder = tmp_path_factory.mktemp("attempts")
    plain = make_data(read_replayed_examples(write_replay(make_examples(50, seed=9)), ratio=0.1))

    def run(name: str, kill_at: Any = None, digest: str = "run") -> tuple[keras.Model, Progress]:
        keras.utils.clear_session()
        keras.utils.set_random_seed(OPTIONS.seed)
        model = build_model(flights.feature_set, OPTIONS)
        data = KillingData(**vars(plain), kill_at=kill_at)
        plan = FitPlan(NUM_EPOCHS, NUM_EPOCHS, folder / "logs", seed=5)
        learner = Learner(model, flights.feature_set, OPTIONS)
        return model, fit(learner, data, plan, Checkpoints(folder / name, digest))

    return run


@pytest.fixture(scope="module")
def undisturbed(attempt: Any) -> Any:
    """The model and progress of a run that nobody killed."""
    return attempt("undisturbed")


def test_run_killed_three_times_resumes_to_the_same_weights(attempt: Any, undisturbed: Any) -> None:
    model, expected = undisturbed
    # In the first epoch, before anything is kept; at the first step after an epoch that is; and at the last of all.
    for epoch, step in ((0, 2), (1, 0), (2, 8)):
        with pytest.raises(KillError):
            attempt("killed", (epoch, step))
    resumed, received = attempt("killed")
    assert len(received.history) == NUM_EPOCHS
    for one, two in zip(expected.losses, received.losses, strict=True):
        assert one == pytest.approx(two, abs=1e-6)
    for one, two in zip(model.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-6)
    for one, two in zip(model.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-6)


def test_run_killed_after_its_last_epoch_trains_no_more(attempt: Any, undisturbed: Any) -> None:
    _, progress = attempt("undisturbed", (2, 0))
    assert len(progress.history) == NUM_EPOCHS


def test_progress_of_another_run_is_not_used(attempt: Any, undisturbed: Any) -> None:
    with pytest.raises(KillError):
        attempt("undisturbed", (0, 0), digest="two")


def test_best_epoch_is_kept(training_data: TrainingData, flights: Any, tmp_path: Path) -> None:
    options = TrainingOptions(learning_rate=0.3)
    keras.utils.set_random_seed(0)
    model = build_model(flights.feature_set, options)
    learner = Learner(model, flights.feature_set, options)
    plan = FitPlan(20, 2, tmp_path / "logs")
    progress = fit(learner, training_data, plan, Checkpoints(tmp_path / "checkpoints", "run"))
    assert progress.best_epoch == len(progress.history) - 3 < 17
    loss = model.evaluate(training_data.validation().dataset(), verbose=0)[0]
    assert loss == pytest.approx(min(progress.losses), abs=1e-6)
    assert int(model.optimizer.iterations) == (progress.best_epoch + 1) * training_data.steps_per_epoch
