"""The optimizer and its learning rate: what goes on over warm starts, and what begins anew with each."""

import math
from typing import Any

import keras
from keras import ops

from schemas.training import TrainingOptions
from trainer.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class RunSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """`rate * factor(step)`: the factor is the policy's, the rate and the first step are the run's.

    `factor` is `max(decay_rate ** (step / decay_steps), floor)` for `exponential`, half a cosine from 1 to `floor`
    over the run's steps for `warm_restart`, and 1 otherwise. Steps count from the line's cold start. The floor keeps a
    model that is warm-started for years able to learn. What changes from run to run is in variables, so that a model
    that is trained week after week is traced once.

    Args:
        policy: As in `schemas.training.TrainingOptions`.
        decay_steps: Steps after which `exponential` has multiplied the rate by `decay_rate`.
        decay_rate: Factor, in (0, 1].
        floor: Smallest share of the rate, in (0, 1].
        rate: Rate before the factor.
        first_step: Step count at which the run begins.
        num_steps: Steps that the run may take.

    Source:
        Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, with one restart a run.
    """

    def __init__(
        self,
        policy: str,
        *,
        decay_steps: int,
        decay_rate: float,
        floor: float,
        rate: float,
        first_step: int = 0,
        num_steps: int = 1,
    ) -> None:
        self.policy = policy
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.floor = floor
        self._rate = keras.Variable(rate, dtype="float32", trainable=False)
        self._first_step = keras.Variable(first_step, dtype="int64", trainable=False)
        self._num_steps = keras.Variable(num_steps, dtype="int64", trainable=False)

    def begin(self, rate: float, first_step: int, num_steps: int) -> None:
        """Begin a run at a step count, which may take `num_steps` steps; nothing is traced anew for it."""
        self._rate.assign(rate)
        self._first_step.assign(first_step)
        self._num_steps.assign(num_steps)

    def __call__(self, step: Any) -> Any:
        """Return the rate at a step, a scalar float32."""
        return self._rate * self._factor(ops.cast(step, "int64"))

    def _factor(self, step: Any) -> Any:
        match self.policy:
            case "exponential":
                periods = ops.cast(step, "float32") / self.decay_steps
                return ops.maximum(ops.power(self.decay_rate, periods), self.floor)
            case "warm_restart":
                done = ops.cast(step - self._first_step, "float32") / ops.cast(self._num_steps, "float32")
                return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
            case _:
                return 1.0

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`, by which Keras saves and loads the schedule."""
        return {
            "policy": self.policy,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "floor": self.floor,
            "rate": float(self._rate.numpy()),
            "first_step": int(self._first_step.numpy()),
            "num_steps": int(self._num_steps.numpy()),
        }


def cold_schedule(options: TrainingOptions) -> RunSchedule:
    """Return the schedule of a cold start; every run begins it anew."""
    return RunSchedule(
        options.learning_rate_policy,
        decay_steps=options.decay_steps,
        decay_rate=options.decay_rate,
        floor=options.learning_rate_floor,
        rate=options.learning_rate,
    )


def run_rate(options: TrainingOptions, line_length: int) -> float:
    """Return the rate of one run, before the factor that depends on the step.

    Example:
        >>> options = TrainingOptions(
        ...     learning_rate=0.1, warm_learning_rate=0.02, learning_rate_policy="inverse_time", inverse_time_alpha=0.5
        ... )
        >>> [run_rate(options, line_length) for line_length in (0, 2, 6)]
        [0.1, 0.01, 0.005]
    """
    rate = options.learning_rate
    if line_length > 0 and options.warm_learning_rate is not None:
        rate = options.warm_learning_rate
    if options.learning_rate_policy == "inverse_time":
        rate /= 1 + options.inverse_time_alpha * line_length
    return rate


def build_optimizer(options: TrainingOptions, schedule: RunSchedule) -> keras.optimizers.Optimizer:
    """Return Adam with gradient clipping (by the norm of each variable's gradient)."""
    return keras.optimizers.Adam(schedule, clipnorm=options.clipnorm)
