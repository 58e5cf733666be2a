"""What holds a warm-started model near its base: L2-SP, EWC and distillation as terms of the training loss.

Fisher information, which EWC needs, is estimated in `trainer.fisher`; when terms apply is in `trainer.conditions`.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from schemas.training import Regularisation
from trainer.layers import PACKAGE
from trainer.model_state import Arrays
from trainer.optimizer import RunSchedule

# The loss between two outputs, where the loss between a label and an output takes no distribution as label.
_LOSSES_BETWEEN_OUTPUTS = {"sparse_categorical_crossentropy": "categorical_crossentropy"}


class Anchor:
    """The base that a model is held near: its weights and their Fisher information.

    The numbers are variables, so that a model that is trained week after week gets a new base without being traced
    anew. A plain object, because Keras saves with a model, and lists among its variables, all that it recognises.

    Args:
        model: Built; its weights of this moment are the base until others are assigned.
        terms: Which terms, and how strong.
    """

    def __init__(self, model: keras.Model, terms: Regularisation) -> None:
        self.terms = terms
        self._weights = {variable.path: _constant(variable) for variable in model.weights}
        self._fisher = {
            variable.path: _constant(ops.zeros_like(variable)) for variable in model.weights if terms.ewc > 0
        }

    def assign(self, weights: Arrays, fisher: Arrays) -> None:
        """Hold on to another base.

        Args:
            weights: By variable path, all of the model's.
            fisher: By variable path; what has none is not held by EWC.
        """
        for path, variable in self._weights.items():
            variable.assign(weights[path])
        for path, variable in self._fisher.items():
            variable.assign(fisher[path] if path in fisher else ops.zeros_like(variable))

    def penalties(self, model: keras.Model) -> dict[str, Any]:
        """Return L2-SP and EWC, those that are switched on, as scalars by name.

        Source:
            Li et al., Explicit Inductive Bias, ICML 2018, equation 3; Kirkpatrick et al., PNAS 2017, equation 3.
        """
        variables = model.trainable_variables
        squares = {variable.path: ops.square(variable - self._weights[variable.path]) for variable in variables}
        penalties = {}
        if self.terms.l2_sp:
            penalties["l2_sp"] = self.terms.l2_sp / 2 * sum(ops.sum(square) for square in squares.values())
        if self.terms.ewc:
            weighted = (ops.sum(self._fisher[path] * square) for path, square in squares.items())
            penalties["ewc"] = self.terms.ewc / 2 * sum(weighted)
        return penalties

    def added_to(self, loss: Any, model: keras.Model, inputs: Any, output: Any) -> Any:
        """Return the loss with all terms.

        Args:
            loss: On the labels, a scalar.
            model: The model that is trained.
            inputs: Its inputs by name.
            output: What it made of them, shape `(batch, units)`.
        """
        if share := self.terms.distillation:
            loss = (1 - share) * loss + share * self._distance(model, inputs, output)
        return loss + sum(self.penalties(model).values())

    def _distance(self, model: keras.Model, inputs: Any, output: Any) -> Any:
        """Return the mean loss of an output with the base's own output for label.

        The base is the model itself with other numbers in its variables: no copy has to be kept in step.
        """
        base = [(variable, self._weights[variable.path].value) for variable in model.weights]
        with keras.StatelessScope(state_mapping=base):
            target = ops.stop_gradient(model(inputs, training=False))
        loss = keras.losses.get(_LOSSES_BETWEEN_OUTPUTS.get(model.loss, model.loss))
        return ops.mean(loss(target, output))


@keras.saving.register_keras_serializable(PACKAGE)
class AnchoredModel(keras.Model):
    """A functional model whose training loss may have the terms of an `Anchor`; without one it is plain Keras.

    The validation loss never has the terms, since early stopping asks how well the labels are predicted.

    Attributes:
        anchor: Set it before training, or compile again: Keras traces the training step once. It is not saved.
        schedule: The optimizer's learning rate, at hand because Keras only shows its value. A loaded model has none.
    """

    anchor: Anchor | None = None
    schedule: RunSchedule

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss on the labels and, while training, the anchor's terms; a scalar."""
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        # Keras divides by the replicas that train together; `trainer.distribution` weighs each by its share instead.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        if self.anchor is None or not training:
            return loss
        return self.anchor.added_to(loss, self, x, y_pred)


def strengths(terms: Regularisation) -> dict[str, float]:
    """Return how strong the terms are that are switched on, by name.

    Example:
        >>> strengths(Regularisation(l2_sp=0.01))
        {'l2_sp': 0.01}
    """
    return {name: value for name, value in terms.model_dump(exclude={"fisher_examples"}).items() if value > 0}


def _constant(value: Any) -> keras.Variable:
    return keras.Variable(ops.convert_to_numpy(value), trainable=False)
