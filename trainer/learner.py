"""A model with the steps that TensorFlow has traced for it: trains and validates, a few steps in one call.

Tracing takes seconds, a step milliseconds. So nothing is traced twice: not for another epoch, another size of data or
another run, since numbers stand in variables; only freezing layers or holding on to a base is another step. Epochs,
and what is kept of them, are in `trainer.fit`.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from core.errors import TrainingError
from schemas.features import FeatureSet
from schemas.training import Regularisation, TrainingOptions
from trainer.batches import Batches, Packing
from trainer.distribution import replicas_for
from trainer.fisher import FisherEstimator
from trainer.heads import head_for
from trainer.objective import Anchor, AnchoredModel
from trainer.precision import LossScale

# Name that keras.random.SeedGenerator gives its state, (seed, counter); the counter goes up by one per draw.
_SEED_STATE = "seed_generator_state"
_DRAWS_PER_EPOCH = 1 << 20
_STATE_RANGE = 1 << 32
Logs = dict[str, float]
Vector = NDArray[np.float32]


class Learner:
    """Trains and validates one model, whoever's numbers are in it.

    Args:
        model: Built and compiled.
        feature_set: Features and label that it was built from.
        options: Options that it was built from.
    """

    def __init__(self, model: AnchoredModel, feature_set: FeatureSet, options: TrainingOptions) -> None:
        self.model = model
        self.head = head_for(feature_set.label)
        self._packing = Packing(feature_set)
        self._num_steps = options.steps_per_execution
        self._metrics = self.head.metrics()
        self._anchors: dict[str, Anchor] = {}
        self._traces: dict[Any, Callable[..., Any]] = {}
        self._jit_compile = options.jit_compile
        self._replicas = replicas_for(options.distribution, options.worker_timeout_seconds)
        with self._replicas.strategy.scope():
            self._loss_scale = LossScale(model.optimizer, options.mixed_precision)
        self._epoch = 0

    @cached_property
    def fisher(self) -> FisherEstimator:
        """What estimates the model's Fisher information."""
        return FisherEstimator(self.model, self.head)

    def anchor(self, terms: Regularisation) -> Anchor:
        """Return the anchor of these terms, whose base is to be assigned."""
        key = terms.model_dump_json()
        if key not in self._anchors:
            self._anchors[key] = Anchor(self.model, terms)
        return self._anchors[key]

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Make dropout's random numbers a function of seed and epoch: Keras saves no seed state with the weights."""
        self._epoch = epoch
        self._loss_scale.begin_epoch()
        states = [variable for variable in self.model.variables if variable.path.endswith(_SEED_STATE)]
        for index, variable in enumerate(states):
            numbers = [(seed + index) % _STATE_RANGE, epoch * _DRAWS_PER_EPOCH % _STATE_RANGE]
            variable.assign(np.array(numbers, dtype=variable.dtype))

    def train(self, batches: Batches) -> Logs:
        """Learn from every batch once and return the mean loss, anchor's terms included, and the metrics.

        Raises:
            TrainingError: the loss became NaN or infinite.
        """
        variant = (tuple(variable.path for variable in self.model.trainable_variables), id(self.model.anchor))
        return self._run(batches, self._train_step, variant)

    def evaluate(self, batches: Batches) -> Logs:
        """Return the mean loss on the labels, finite or not, and the metrics."""
        return self._run(batches, self._test_step, None)

    def _run(self, batches: Batches, step: Callable[..., Any], variant: Any) -> Logs:
        for metric in self._metrics:
            metric.reset_state()
        losses: list[Vector] = []
        sizes: list[NDArray[np.int32]] = []
        call = self._traced(batches, step, variant)
        for arguments in batches.calls(self._num_steps):
            loss, size, label, output = call(*arguments)
            losses.append(loss.numpy())
            sizes.append(size.numpy())
            if variant is not None:
                self._check_finite(losses)
            for metric in self._metrics:
                metric.update_state(label, output)
        loss = np.average(np.concatenate(losses).astype(np.float64), weights=np.concatenate(sizes))
        logs = {"loss": float(loss), **{metric.name: float(metric.result()) for metric in self._metrics}}
        # All workers must stop, or go on, together.
        return dict(zip(logs, self._replicas.chiefs(list(logs.values())), strict=True))

    def _check_finite(self, losses: list[Vector]) -> None:
        if not np.all(np.isfinite(losses[-1])):
            every = np.concatenate(losses)
            index = int(np.argmin(np.isfinite(every)))
            where = f"at step {index + 1} of epoch {self._epoch + 1}"
            raise TrainingError(not_finite(float(every[index]), where, self.model))

    def _traced(self, batches: Batches, step: Callable[..., Any], variant: Any) -> Callable[..., Any]:
        """Return what makes a few steps on such columns, traced if it has not been."""
        signature = [*batches.column_specs, tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int32)]
        key = (str(signature), step.__name__, variant)
        if key not in self._traces:
            compiled = tf.function(step, autograph=False, jit_compile=True) if self._jit_compile else step
            self._traces[key] = tf.function(
                partial(self._steps_from_columns, compiled), input_signature=signature, autograph=False
            )
        return self._traces[key]

    def _steps_from_columns(self, step: Any, floats: Any, ids: Any, label: Any, rows: Any, batch_size: Any) -> Any:
        def next_batch(index: Any) -> Any:
            chosen = rows[index * batch_size : (index + 1) * batch_size]
            inputs = self._packing.unpacked(tf.gather(floats, chosen), tf.gather(ids, chosen))
            return inputs, tf.gather(label, chosen)

        return self._steps(step, next_batch, -(-tf.size(rows) // batch_size), label.dtype)

    def _steps(self, step: Any, next_batch: Callable[[Any], Any], num_steps: Any, label_dtype: Any) -> Any:
        """Make steps in one call; return losses and sizes, shape `(num_steps,)`, and all labels and outputs."""
        arrays = [
            tf.TensorArray(tf.float32, num_steps, element_shape=()),
            tf.TensorArray(tf.int32, num_steps, element_shape=()),
            tf.TensorArray(label_dtype, num_steps, element_shape=(None, 1), infer_shape=False),
            tf.TensorArray(tf.float32, num_steps, element_shape=(None, self.head.units), infer_shape=False),
        ]

        def body(index: Any, *arrays: Any) -> Any:
            inputs, label = next_batch(index)
            loss, output = step(inputs, label)
            values = (loss, tf.shape(output)[0], label, output)
            return index + 1, *(array.write(index, value) for array, value in zip(arrays, values, strict=True))

        # One after another: the next step needs the weights of this one.
        _, *arrays = tf.while_loop(lambda index, *_: index < num_steps, body, (0, *arrays), parallel_iterations=1)
        losses, sizes, labels, outputs = arrays
        return losses.stack(), sizes.stack(), labels.concat(), outputs.concat()

    def _train_step(self, inputs: Any, label: Any) -> Any:
        """Learn from one batch; return its loss and the outputs before."""
        model = self.model
        variables = model.trainable_variables

        def loss_of(examples: Any) -> tuple[Any, Any]:
            output = model(examples[0], training=True)
            return model.compute_loss(x=examples[0], y=examples[1], y_pred=output, training=True), output

        loss, gradients, output = self._replicas.loss_and_gradients(
            loss_of, variables, (inputs, label), scale=self._loss_scale.scale
        )
        self._loss_scale.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, output

    def _test_step(self, inputs: Any, label: Any) -> Any:
        """Return the loss of one batch and the outputs."""
        output = self.model(inputs, training=False)
        return self.model.compute_loss(x=inputs, y=label, y_pred=output, training=False), output


def not_finite(loss: float, where: str, model: AnchoredModel) -> str:
    """Return a sentence about a loss that is no number, and what to do."""
    return (
        f"The loss became {loss} {where}. Expected a finite loss; received {loss} with "
        f"learning_rate={float(model.optimizer.learning_rate.numpy()):g}. "
        "Lower learning_rate, set clipnorm, or look for absurd values in the data."
    )
