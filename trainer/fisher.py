"""Diagonal Fisher information: how much each weight matters for what a model predicts. EWC uses it in objective.py."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from trainer.heads import Head
from trainer.model_state import Arrays

# Gradients of so many examples are held at a time as to fill about this many float32 numbers, 64 MB.
MAX_GRADIENT_NUMBERS = 1 << 24
MAX_CHUNK_EXAMPLES = 128


def fisher_information(model: keras.Model, head: Head, batches: tf.data.Dataset, num_examples: int) -> Arrays:
    """Return the diagonal Fisher information of a model, see `FisherEstimator`."""
    return FisherEstimator(model, head).estimate(batches, num_examples)


class FisherEstimator:
    """Estimates the diagonal Fisher information of a model, traced once and usable after every training.

    The expectation over labels is exact and over the model's own output distribution, not over the labels that were
    seen, and squares are of every example's own gradient, not of a batch's mean. For one example it is
    `p * (1 - p) * (dz/dtheta)^2` for a binary label with logit z, `sum_k p_k * (dlog p_k/dtheta)^2` for several
    classes, and `(dz/dtheta)^2` for a number of unit variance.

    Args:
        model: Functional, with its inputs by name.
        head: Its head; the layer named like its output makes the output from the logits.

    Source:
        Kunstner et al., Limitations of the Empirical Fisher Approximation, NeurIPS 2019, section 2.
    """

    def __init__(self, model: keras.Model, head: Head) -> None:
        self._head = head
        self._logits = keras.Model(model.input, model.get_layer(head.output).input)
        self._variables = list(model.trainable_variables)
        # The signature leaves the number of examples open: the last chunk is smaller.
        signature = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
        self._total = tf.function(self._sum_of_squares, input_signature=[signature], autograph=False)

    def estimate(self, batches: tf.data.Dataset, num_examples: int) -> Arrays:
        """Return the Fisher information by path of trainable weight: a mean over examples, float32.

        Args:
            batches: Inputs by name, and labels, which are not used.
            num_examples: Most examples to use, the first.
        """
        sums = [np.zeros(variable.shape, np.float64) for variable in self._variables]
        chunk = MAX_GRADIENT_NUMBERS // (sum(array.size for array in sums) * self._head.units)
        examples = batches.map(lambda inputs, _: inputs).unbatch().take(num_examples)
        num_used = 0
        for inputs in examples.batch(max(1, min(MAX_CHUNK_EXAMPLES, chunk))):
            sums = [one + two.numpy() for one, two in zip(sums, self._total(inputs), strict=True)]
            num_used += len(next(iter(inputs.values())))
        means = ((array / num_used).astype(np.float32) for array in sums)
        return {variable.path: mean for variable, mean in zip(self._variables, means, strict=True)}

    def _sum_of_squares(self, inputs: dict[str, Any]) -> list[Any]:
        return [tf.reduce_sum(squares, axis=0) for squares in tf.vectorized_map(self._squared_gradients, inputs)]

    def _squared_gradients(self, example: dict[str, Any]) -> list[Any]:
        """Return the sum over outputs of the squared gradients for one example, in the shapes of the weights."""
        variables = [variable.value for variable in self._variables]
        with tf.GradientTape(persistent=True) as tape:
            logits = self._logits({name: tensor[tf.newaxis] for name, tensor in example.items()}, training=False)
            parts = _scores(logits[0], self._head)
        gradients = [tape.gradient(part, variables, unconnected_gradients="zero") for part in parts]
        # A looked-up embedding has a gradient in the form of slices, which have to add up before they are squared.
        return [tf.add_n([tf.convert_to_tensor(g) ** 2 for g in column]) for column in zip(*gradients, strict=True)]


def _scores(logits: Any, head: Head) -> list[Any]:
    """Return scalars whose squared gradients add up to the Fisher information of one example.

    Args:
        logits: Shape `(units,)`.
        head: What the logits mean.
    """
    match head.activation:
        case "sigmoid":
            probability = tf.stop_gradient(ops.sigmoid(logits[0]))
            return [ops.sqrt(probability * (1 - probability)) * logits[0]]
        case "softmax":
            log_probabilities = ops.log_softmax(logits)
            weights = tf.stop_gradient(ops.exp(log_probabilities / 2))
            return [weights[k] * log_probabilities[k] for k in range(head.units)]
        case _:
            return [logits[0]]
