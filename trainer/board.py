"""What TensorBoard shows of a run: losses and metrics, and histograms of weights and gradients, after every epoch."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.plugins.histogram.summary import histogram_pb

_VALIDATION_PREFIX = "val_"


class Board:
    """Writes TensorBoard's files, those of training and of validation in a folder each, as Keras does.

    Histograms are made by NumPy: TensorFlow's own take some thirty operations a variable.

    Args:
        folder: TensorBoard folder.
        batch: Model inputs by name and label, shape `(batch, 1)`, on which gradients are shown.
    """

    def __init__(self, folder: Path, batch: tuple[dict[str, Any], Any]) -> None:
        self._folder = folder
        self._batch = batch

    def write(self, model: keras.Model, epoch: int, logs: dict[str, float]) -> None:
        """Write an epoch's numbers."""
        training = {name: value for name, value in logs.items() if not name.startswith(_VALIDATION_PREFIX)}
        validation = {
            name.removeprefix(_VALIDATION_PREFIX): value for name, value in logs.items() if name not in training
        }
        for folder, numbers in (("train", training), ("validation", validation)):
            writer = tf.summary.create_file_writer(str(self._folder / folder))
            with writer.as_default(step=epoch):
                for name, value in numbers.items():
                    tf.summary.scalar(f"epoch_{name}", value)
                if numbers is training:
                    self._write_histograms(model, epoch)
            writer.close()

    def _write_histograms(self, model: keras.Model, epoch: int) -> None:
        arrays = {f"{variable.path}/histogram": np.asarray(variable) for variable in model.weights}
        for name, array in (arrays | self._gradients(model)).items():
            tf.summary.experimental.write_raw_pb(histogram_pb(name, array).SerializeToString(), step=epoch)

    def _gradients(self, model: keras.Model) -> dict[str, NDArray[Any]]:
        inputs, label = self._batch
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=inputs, y=label, y_pred=model(inputs, training=False), training=False)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        return {
            f"gradients/{variable.path}": tf.convert_to_tensor(gradient).numpy()
            for variable, gradient in zip(variables, gradients, strict=True)
            if gradient is not None
        }
