"""Trains and asks the product's own model on arrays in memory, weights exchanged in place.

One model is built and traced per feature set and kind of regularisation, then used for all spans and seeds: building
and tracing cost more than learning a week does. The seconds that are returned are without them.
"""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from schemas.features import FeatureSet
from schemas.training import ModelShape, Regularisation, TrainingOptions
from schemas.transformed import DenseInput, model_inputs
from trainer.fisher import fisher_information
from trainer.heads import head_for
from trainer.model import build_model
from trainer.model_state import ModelState, assign_state, state_of
from trainer.objective import Anchor, AnchoredModel, strengths
from trainer.optimizer import run_rate
from trainer.starts import Start

Array = NDArray[Any]
Arrays = dict[str, Array]


class Learner:
    """A compiled model that can be anyone's who trains with the same features and model.

    Args:
        feature_set: Features and label.
        options: As the config has them.
    """

    def __init__(self, feature_set: FeatureSet, options: TrainingOptions) -> None:
        self.shape = ModelShape(feature_set=feature_set, model=options.model)
        self._options = options
        self._fresh: dict[int, ModelState] = {}
        inputs = model_inputs(feature_set)
        self._dense = [item.name for item in inputs if isinstance(item, DenseInput)]
        self._ids = [item.name for item in inputs if not isinstance(item, DenseInput)]
        self._model = self._built(options.seed)
        self._schedule = self._model.optimizer._learning_rate
        columns = [
            tf.TensorSpec([None, len(self._dense)], tf.float32),
            tf.TensorSpec([None, len(self._ids)], tf.int64),
        ]
        rows = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int32)]
        self._signature = columns + rows
        self._train = self._traced()
        self._anchored: dict[str, tuple[Anchor, Any]] = {}
        self._predict = tf.function(self._predict_all, input_signature=columns).get_concrete_function()

    def _held(self, terms: Regularisation) -> tuple[Anchor, Any]:
        """Return an anchor of these terms and the training function that is held by it."""
        key = terms.model_dump_json()
        if key not in self._anchored:
            self._model.anchor = anchor = Anchor(self._model, terms)
            self._anchored[key] = anchor, self._traced()
            self._model.anchor = None
            self._load()
        return self._anchored[key]

    def _traced(self) -> Any:
        # A function of its own each time, or the trace without the anchor would be used again.
        return tf.function(
            lambda *arrays: self._train_epoch(*arrays), input_signature=self._signature
        ).get_concrete_function()

    def fresh_state(self, seed: int) -> ModelState:
        """Return random weights, and an optimizer at step 0."""
        if seed not in self._fresh:
            self._fresh[seed] = state_of(self._built(seed))
            self._load()
        return self._fresh[seed]

    def _load(self) -> None:
        """Let TensorFlow optimise its graphs, on no examples: setting a random seed makes it forget that it did."""
        nothing = [tf.zeros([1, len(self._dense)]), tf.zeros([1, len(self._ids)], tf.int64)]
        for train in (self._train, *(train for _, train in self._anchored.values())):
            train(*nothing, tf.zeros([1]), tf.zeros([0], tf.int64), tf.constant(1))
        self._predict(*nothing)

    def state(self) -> ModelState:
        """Return copies of the present weights and optimizer variables."""
        return state_of(self._model)

    def assign(self, state: ModelState) -> None:
        """Take over a state."""
        assign_state(self._model, state)

    @property
    def trainable(self) -> list[str]:
        """Paths of the trainable weights."""
        return [variable.path for variable in self._model.trainable_variables]

    def fit(
        self, inputs: Arrays, labels: Array, start: Start, options: TrainingOptions, *, epochs: int, order_seed: int
    ) -> float:
        """Train from a start, the examples in another order each epoch, and return the seconds it took.

        Args:
            inputs: By name, shape `(num_examples, 1)`.
            labels: Shape `(num_examples,)`.
            start: Where to begin; a start with a base is held near it by the options' regularisation.
            options: Batch size and learning rate.
            epochs: Passes over the examples.
            order_seed: Seed of the order.
        """
        is_held = start.base is not None and strengths(options.regularisation)
        anchor, train = self._held(options.regularisation) if is_held else (None, self._train)
        started = time.process_time()
        self.assign(start.state)
        if anchor is not None and start.base is not None:
            anchor.assign(start.base.weights, start.base.fisher)
        num_steps = epochs * -(-len(labels) // options.batch_size)
        self._schedule.begin(run_rate(options, start.line_length), int(self._model.optimizer.iterations), num_steps)
        random = np.random.default_rng(order_seed)
        packed = [tf.constant(array) for array in (*self._packed(inputs), labels.astype(np.float32))]
        for _ in range(epochs):
            train(*packed, tf.constant(random.permutation(len(labels)), tf.int64), tf.constant(options.batch_size))
        return time.process_time() - started

    def fisher(self, inputs: Arrays, labels: Array, options: TrainingOptions) -> tuple[float, Arrays]:
        """Return the seconds it took, and Fisher information on the first `fisher_examples` of the examples."""
        started = time.process_time()
        num_examples = options.regularisation.fisher_examples
        some = {name: array[:num_examples] for name, array in inputs.items()}
        batches = tf.data.Dataset.from_tensor_slices((some, labels[:num_examples])).batch(options.batch_size)
        found = fisher_information(self._model, head_for(self.shape.feature_set.label), batches, num_examples)
        return time.process_time() - started, found

    def predict(self, inputs: Arrays) -> Array:
        """Return probabilities, shape `(num_examples,)`."""
        probabilities: Array = self._predict(*map(tf.constant, self._packed(inputs))).numpy()
        return probabilities[:, 0]

    def _built(self, seed: int) -> AnchoredModel:
        keras.utils.set_random_seed(seed)
        model = build_model(self.shape.feature_set, self._options)
        # Without metrics: counting them costs more than a step does. Predictions are scored elsewhere.
        model.compile(model.optimizer, model.loss, jit_compile=False)
        return model

    def _packed(self, inputs: Arrays) -> tuple[Array, Array]:
        return np.hstack([inputs[name] for name in self._dense]), np.hstack([inputs[name] for name in self._ids])

    def _unpacked(self, dense: tf.Tensor, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = {name: dense[:, index : index + 1] for index, name in enumerate(self._dense)}
        return columns | {name: ids[:, index : index + 1] for index, name in enumerate(self._ids)}

    def _predict_all(self, dense: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        return self._model(self._unpacked(dense, ids), training=False)

    def _train_epoch(
        self, dense: tf.Tensor, ids: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, size: tf.Tensor
    ) -> None:
        for start in tf.range(0, tf.size(order), size):
            rows = order[start : start + size]
            inputs = self._unpacked(tf.gather(dense, rows), tf.gather(ids, rows))
            self._model.train_step((inputs, tf.gather(labels, rows)[:, tf.newaxis]))
