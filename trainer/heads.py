"""What a task means for the model's last layer, loss and outputs. The layers before it are in `trainer.model`."""

from dataclasses import dataclass

import keras

from schemas.features import LabelSpec
from schemas.model_layout import PROBABILITIES_OUTPUT, PROBABILITY_OUTPUT, VALUE_OUTPUT


@dataclass(frozen=True)
class Head:
    """One kind of head.

    Attributes:
        output: Name of the signatures' output and of the layer that makes it.
        units: Width of the output.
        activation: Keras activation from logits to output.
        loss: Keras loss on the output. In graph mode Keras recovers the logits, so that it stays stable near 0 and 1.
    """

    output: str
    units: int
    activation: str
    loss: str

    def metrics(self) -> list[keras.metrics.Metric]:
        """Return fresh metrics to watch while fitting; the gate computes its own."""
        match self.output:
            case "probability":
                return [keras.metrics.AUC(name="auc")]
            case "probabilities":
                return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
            case _:
                return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]


def head_for(label: LabelSpec) -> Head:
    """Return the head for the label's task."""
    match label.task:
        case "binary":
            return Head(PROBABILITY_OUTPUT, 1, "sigmoid", "binary_crossentropy")
        case "multiclass":
            return Head(PROBABILITIES_OUTPUT, len(label.classes), "softmax", "sparse_categorical_crossentropy")
        case "regression":
            return Head(VALUE_OUTPUT, 1, "linear", "mean_squared_error")
