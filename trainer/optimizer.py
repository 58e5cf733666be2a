"""The optimizer and its learning rate, which goes on over warm starts because it depends on the step count alone."""

from typing import Any

import keras
from keras import ops

from schemas.training import TrainingOptions
from trainer.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class FlooredExponentialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`initial * max(decay_rate ** (step / decay_steps), floor)`.

    The floor keeps a model that is warm-started for years able to learn; without it the rate would reach zero.

    Args:
        initial_learning_rate: Rate at step 0.
        decay_steps: Steps after which the rate has been multiplied by `decay_rate`.
        decay_rate: Factor, in (0, 1].
        floor: Smallest share of the initial rate, in (0, 1].
    """

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, floor: float) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.floor = floor

    def __call__(self, step: Any) -> Any:
        """Return the rate at a step, a scalar float32."""
        periods = ops.cast(step, "float32") / self.decay_steps
        return self.initial_learning_rate * ops.maximum(ops.power(self.decay_rate, periods), self.floor)

    def get_config(self) -> dict[str, float]:
        """Return the arguments of `__init__`, by which Keras saves and loads the schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "floor": self.floor,
        }


def build_optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    """Return Adam with the options' schedule and gradient clipping (by the norm of each variable's gradient)."""
    schedule = FlooredExponentialDecay(
        options.learning_rate, options.decay_steps, options.decay_rate, options.learning_rate_floor
    )
    return keras.optimizers.Adam(schedule, clipnorm=options.clipnorm)
