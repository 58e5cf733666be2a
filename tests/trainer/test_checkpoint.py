"""When early stopping stops, and what a damaged or foreign checkpoint folder means."""

from pathlib import Path

import keras
import numpy as np
import pytest

from trainer.checkpoint import PROGRESS_FILE, Checkpoints, Progress, should_stop
from trainer.probe import ProbeResult


@pytest.fixture
def model() -> keras.Model:
    """A compiled model with one weight."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="only")])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("losses", "patience_epochs", "expected"),
    [
        ([0.5], 1, False),
        ([0.5, 0.4], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.6], 0, True),
        ([0.5], 0, False),
        ([0.5, 0.6], 2, False),
        ([0.5, 0.6, 0.7], 2, True),
        ([0.5, 0.6, 0.4], 2, False),
    ],
)
def test_stops_after_patience_without_a_better_loss(losses: list[float], patience_epochs: int, expected: bool) -> None:
    assert should_stop(losses, patience_epochs) is expected


@pytest.mark.parametrize("content", [None, "", "{", '{"run_digest": 3}'], ids=["none", "empty", "cut", "foreign"])
def test_unusable_progress_starts_afresh(content: str | None, model: keras.Model, tmp_path: Path) -> None:
    if content is not None:
        (Checkpoints(tmp_path, "run").folder / PROGRESS_FILE).write_text(content)
    assert Checkpoints(tmp_path, "run").resume(model) == Progress(run_digest="run")


def test_only_best_and_last_weights_are_kept(model: keras.Model, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new", "run")
    history: tuple[dict[str, float], ...] = ()
    for loss in (0.5, 0.3, 0.4, 0.6):
        history = (*history, {"val_loss": loss})
        checkpoints.save(model, Progress(run_digest="run", history=history))
    assert sorted(file.name for file in checkpoints.folder.iterdir()) == [
        "epoch-1.weights.h5",
        "epoch-3.weights.h5",
        PROGRESS_FILE,
    ]


def test_attempt_that_wakes_up_harms_no_later_one(model: keras.Model, tmp_path: Path) -> None:
    losses = [{"val_loss": loss} for loss in (0.5, 0.4, 0.3)]
    asleep = Checkpoints(tmp_path, "run")
    asleep.save(model, Progress(run_digest="run", history=tuple(losses[:1])))
    successor = Checkpoints(tmp_path, "run")
    assert len(successor.resume(model).history) == 1
    model.layers[0].set_weights([np.array([[3.0]])])
    successor.save(model, Progress(run_digest="run", history=tuple(losses)))
    asleep.save(model, Progress(run_digest="run", history=tuple(losses[:2])))
    model.layers[0].set_weights([np.array([[4.0]])])
    successor.restore(model, 2)
    assert float(model.layers[0].get_weights()[0][0, 0]) == 3.0
    assert len(Checkpoints(tmp_path, "run").resume(model).history) == 3


def test_resume_brings_back_the_last_epoch(model: keras.Model, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    model.layers[0].set_weights([np.array([[3.0]])])
    checkpoints.save(model, Progress(run_digest="run", history=({"val_loss": 0.5},)))
    model.layers[0].set_weights([np.array([[4.0]])])
    assert len(checkpoints.resume(model).history) == 1
    assert float(model.layers[0].get_weights()[0][0, 0]) == 3.0


def test_decision_is_recalled_by_its_own_run_alone(tmp_path: Path) -> None:
    decision = ProbeResult(winner="cold", why="The probe chose cold.")
    checkpoints = Checkpoints(tmp_path / "new", "run")
    assert checkpoints.recall(ProbeResult) is None
    checkpoints.keep(decision)
    assert Checkpoints(tmp_path / "new", "run").recall(ProbeResult) == decision
    assert Checkpoints(tmp_path / "new", "another").recall(ProbeResult) is None
