"""One training run: epochs until validation loss stops falling, the best epoch kept, resumable after a kill."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from core.errors import DataError
from trainer.callbacks import EpochProgress, EpochSeeds, GradientHistograms, NanGuard
from trainer.checkpoint import Checkpoints, Progress, should_stop
from trainer.input_data import TrainingData


@dataclass(frozen=True)
class FitPlan:
    """How long to train and where to keep what.

    Attributes:
        num_epochs: Most epochs.
        patience_epochs: Epochs without a better validation loss before stopping.
        log_dir: TensorBoard folder.
        callbacks: More Keras callbacks, called before progress is saved.
    """

    num_epochs: int
    patience_epochs: int
    log_dir: Path
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def fit(model: keras.Model, data: TrainingData, plan: FitPlan, checkpoints: Checkpoints) -> Progress:
    """Train `model` in place, from where an earlier attempt stopped, to the best epoch's weights and optimizer.

    Raises:
        TrainingError: the loss became NaN or infinite.
        DataError: a file became unreadable while training.
    """
    progress = checkpoints.resume(model)
    first_epoch = len(progress.history)
    if first_epoch < plan.num_epochs and not (first_epoch and should_stop(progress.losses, plan.patience_epochs)):
        saver = EpochProgress(checkpoints, progress, plan.patience_epochs)
        try:
            _fit(model, data, plan, first_epoch, [EpochSeeds(), NanGuard(), *plan.callbacks, saver])
        except tf.errors.DataLossError as error:
            raise DataError(
                f"A training file became unreadable while training. Expected intact TFRecords in {data.all_files}; "
                f"received {error.message}. Ingest the span again."
            ) from error
        progress = saver.progress
    checkpoints.restore(model, progress.best_epoch)
    return progress


def _fit(
    model: keras.Model,
    data: TrainingData,
    plan: FitPlan,
    first_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    board = keras.callbacks.TensorBoard(str(plan.log_dir), histogram_freq=1, write_graph=False)
    gradients = GradientHistograms(plan.log_dir / "train", data.sample())
    model.fit(
        data.training(first_epoch, plan.num_epochs),
        validation_data=data.validation(),
        validation_steps=data.validation_steps,
        initial_epoch=first_epoch,
        epochs=plan.num_epochs,
        steps_per_epoch=data.steps_per_epoch,
        callbacks=[board, gradients, *callbacks],
        shuffle=False,
        verbose=0,
    )
