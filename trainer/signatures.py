"""What a served model answers: three signatures over one transform graph and one Keras model."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from schemas.model_layout import (
    COLUMNAR_SIGNATURE,
    EXAMPLES_INPUT,
    SERVING_SIGNATURE,
    TRANSFORM_SIGNATURE,
)
from schemas.transformed import IdInput, model_inputs
from trainer.heads import head_for
from trainer.transform_graph import TransformGraph

if TYPE_CHECKING:
    from collections.abc import Callable


class ServedModel(tf.Module):
    """Everything that a SavedModel has to keep alive: the transform graph with its vocabularies, and the weights.

    The Keras object and its optimizer stay out; the signatures hold the computation.

    Args:
        model: Trained model.
        graph: The transform graph it was trained under.
    """

    def __init__(self, model: keras.Model, graph: TransformGraph) -> None:
        super().__init__()
        self.graph = graph
        self.model_variables = list(served_variables(model).values())
        output = head_for(graph.feature_set.label).output
        columns = _column_specs(graph)
        examples = tf.TensorSpec((None,), tf.string, name=EXAMPLES_INPUT)

        @tf.function(input_signature=[examples], autograph=False)
        def predict_examples(examples: Any) -> dict[str, Any]:
            return {output: model(graph.features(examples), training=False)}

        @tf.function(input_signature=[examples], autograph=False)
        def transform_examples(examples: Any) -> dict[str, Any]:
            return graph.features(examples)

        @tf.function(input_signature=[columns], autograph=False)
        def predict_columns(columns: dict[str, Any]) -> dict[str, Any]:
            raw = {name: _as_parsed(column, graph.raw_spec[name]) for name, column in columns.items()}
            return {output: model(graph.transformed(raw), training=False)}

        self.endpoints: dict[str, Callable[..., Any]] = {
            SERVING_SIGNATURE: predict_examples,
            TRANSFORM_SIGNATURE: transform_examples,
            COLUMNAR_SIGNATURE: predict_columns,
        }


def served_variables(model: keras.Model) -> dict[str, Any]:
    """Return the model's TensorFlow variables by the name that a SavedModel's checkpoint gives them, without ending.

    All but those of metrics, which nothing that is served reads.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [variable.value for variable in model.variables if id(variable) not in metrics]
    return {f"model_variables/{index}": variable for index, variable in enumerate(variables)}


def _column_specs(graph: TransformGraph) -> dict[str, tf.TensorSpec]:
    """Return shape `(batch, 1)` per raw column, or `(batch, any)` for a multi-valued feature."""
    multivalued = {
        item.name for item in model_inputs(graph.feature_set) if isinstance(item, IdInput) and item.num_values > 1
    }
    return {
        name: tf.TensorSpec((None, None if name in multivalued else 1), spec.dtype, name=name)
        for name, spec in graph.raw_spec.items()
    }


def _as_parsed(column: Any, spec: Any) -> Any:
    """Return a column as parsing an example would: sparse without missing values (`""`, NaN), or in its fixed shape.

    An integer has no value that could mean missing.
    """
    if isinstance(spec, tf.io.FixedLenFeature):
        return tf.reshape(column, (-1, *spec.shape))
    if column.dtype == tf.string:
        is_present = column != ""
    elif column.dtype.is_floating:
        is_present = ~tf.math.is_nan(column)
    else:
        is_present = tf.ones_like(column, tf.bool)
    # By way of ragged, so that a gap between two values closes.
    return tf.ragged.boolean_mask(column, is_present).to_sparse()
