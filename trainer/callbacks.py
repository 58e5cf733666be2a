"""The Keras callbacks of a training run: seeds, NaN guard, gradient histograms, progress. The run is `trainer.fit`."""

import logging
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from core.errors import TrainingError
from trainer.checkpoint import Checkpoints, Progress, should_stop

# Name that keras.random.SeedGenerator gives its state, (seed, counter); the counter goes up by one per draw.
_SEED_STATE = "seed_generator_state"
_DRAWS_PER_EPOCH = 1 << 20
_STATE_RANGE = 1 << 32
_LOG = logging.getLogger(__name__)
Logs = dict[str, float] | None


class NanGuard(keras.callbacks.Callback):
    """Ends the run at the first loss that is NaN or infinite; Keras' TerminateOnNaN would keep the broken weights."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Check the epoch's running mean of the loss."""
        self._check((logs or {})["loss"], f"at step {batch + 1} of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Check the validation loss."""
        self._check((logs or {})["val_loss"], f"on validation after epoch {epoch + 1}")

    def _check(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"The loss became {loss} {where}. Expected a finite loss; received {loss} with learning_rate={rate:g}. "
                "Lower learning_rate, set clipnorm, or look for absurd values in the data."
            )


class EpochSeeds(keras.callbacks.Callback):
    """Makes dropout's random numbers a function of the epoch, because Keras saves no seed state with the weights."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Move every seed generator's counter to where this epoch begins; the seed itself stays."""
        for variable in self.model.variables:
            if variable.path.endswith(_SEED_STATE):
                seed = int(ops.convert_to_numpy(variable)[0])
                variable.assign(np.array([seed, epoch * _DRAWS_PER_EPOCH % _STATE_RANGE], dtype=variable.dtype))


class GradientHistograms(keras.callbacks.Callback):
    """Writes a histogram of every variable's gradient to TensorBoard after each epoch, on one fixed batch.

    Args:
        log_dir: TensorBoard folder.
        batch: Model inputs by name and label, shape `(batch, 1)`.
    """

    def __init__(self, log_dir: Path, batch: tuple[dict[str, Any], Any]) -> None:
        super().__init__()
        self._log_dir = log_dir
        self._batch = batch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compute the gradients once and write them."""
        features, label = self._batch
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x=features, y=label, y_pred=self.model(features, training=False))
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        writer = tf.summary.create_file_writer(str(self._log_dir))
        with writer.as_default(step=epoch):
            for variable, gradient in zip(variables, gradients, strict=True):
                if gradient is not None:
                    tf.summary.histogram(f"gradients/{variable.path}", tf.convert_to_tensor(gradient))
        writer.close()


class EpochProgress(keras.callbacks.Callback):
    """Saves a checkpoint after every epoch and stops early.

    Args:
        checkpoints: Where progress is kept.
        progress: What an earlier attempt has done.
        patience_epochs: Epochs without a better validation loss before stopping.
    """

    def __init__(self, checkpoints: Checkpoints, progress: Progress, patience_epochs: int) -> None:
        super().__init__()
        self.progress = progress
        self._checkpoints = checkpoints
        self._patience_epochs = patience_epochs

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Keep the epoch's result."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self.progress = self.progress.model_copy(update={"history": (*self.progress.history, numbers)})
        self._checkpoints.save(self.model, self.progress)
        _LOG.info("Epoch %d: %s", epoch + 1, ", ".join(f"{name} {value:.5g}" for name, value in numbers.items()))
        if should_stop(self.progress.losses, self._patience_epochs):
            self.model.stop_training = True
