"""One training run: epochs until validation loss stops falling, the best epoch kept, resumable after a kill."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from core.errors import DataError, TrainingError
from trainer.board import Board
from trainer.checkpoint import Checkpoints, Progress, should_stop
from trainer.input_data import TrainingData
from trainer.learner import Learner, Logs, not_finite

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitPlan:
    """How long to train and where to keep what.

    Attributes:
        num_epochs: Most epochs.
        patience_epochs: Epochs without a better validation loss before stopping.
        log_dir: TensorBoard folder.
        seed: Of the random numbers in a step, such as dropout's.
    """

    num_epochs: int
    patience_epochs: int
    log_dir: Path
    seed: int = 0

    def is_over(self, progress: Progress) -> bool:
        """Tell whether a run that got this far has no more epoch to do."""
        num_done = len(progress.history)
        return num_done >= self.num_epochs or (num_done > 0 and should_stop(progress.losses, self.patience_epochs))


def fit(learner: Learner, data: TrainingData, plan: FitPlan, checkpoints: Checkpoints) -> Progress:
    """Train the model in place, from where an earlier attempt stopped, to the best epoch's weights and optimizer.

    Raises:
        TrainingError: the loss became NaN or infinite.
        DataError: a file became unreadable while training.
    """
    progress = checkpoints.resume(learner.model)
    if not plan.is_over(progress):
        board = Board(plan.log_dir, data.sample())
        while not plan.is_over(progress):
            epoch = len(progress.history)
            logs = _epoch(learner, data, plan, epoch)
            progress = progress.model_copy(update={"history": (*progress.history, logs)})
            checkpoints.save(learner.model, progress)
            shown = ", ".join(f"{name} {value:.5g}" for name, value in logs.items())
            _LOG.info("Epoch %d: %s", epoch + 1, shown)
            board.write(learner.model, epoch, logs)
    if progress.best_epoch != len(progress.history) - 1:
        checkpoints.restore(learner.model, progress.best_epoch)
    return progress


def _epoch(learner: Learner, data: TrainingData, plan: FitPlan, epoch: int) -> Logs:
    """Learn from all examples once, validate, and return losses and metrics."""
    learner.begin_epoch(plan.seed, epoch)
    try:
        logs = learner.train(data.training(epoch))
        validation = learner.evaluate(data.validation())
    except tf.errors.DataLossError as error:
        raise DataError(
            f"A training file became unreadable while training. Expected intact TFRecords; received {error.message}. "
            "Ingest the span again."
        ) from error
    if not math.isfinite(validation["loss"]):
        raise TrainingError(not_finite(validation["loss"], f"on validation after epoch {epoch + 1}", learner.model))
    return {**logs, **{f"val_{name}": value for name, value in validation.items()}}
