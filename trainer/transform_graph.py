"""The transform graph as the trainer and the served model apply it: one object, so that the two cannot differ."""

from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from core.digests import digest_of_folder
from schemas.features import FeatureSet
from schemas.transformed import model_inputs

Tensors = dict[str, Any]


class TransformGraph(tf.Module):
    """A transform graph on disk, loaded once, with the parsing of the raw examples it takes.

    Args:
        folder: TransformGraph artifact.
        feature_set: Features that the graph was built from.
    """

    def __init__(self, folder: Path, feature_set: FeatureSet) -> None:
        super().__init__()
        self.feature_set = feature_set
        self.digest = digest_of_folder(folder)
        output = tft.TFTransformOutput(str(folder))
        spec = output.raw_feature_spec()
        self.label_spec = spec.pop(feature_set.label.name)
        # A user's own function may read any column; ours reads those of the features alone.
        self.raw_spec: dict[str, Any] = (
            {name: spec[name] for name in feature_set.features} if feature_set.preprocessing_fn is None else spec
        )
        self._layer = output.transform_features_layer()
        examples = tf.TensorSpec((None,), tf.string)
        # One trace, shared by the training and the validation batches.
        self.features_and_label = tf.function(self._features_and_label, input_signature=[examples], autograph=False)

    def features(self, serialized: Any) -> Tensors:
        """Return the model's inputs for serialized examples of shape `(batch,)`; they need no label."""
        return self.transformed(tf.io.parse_example(serialized, dict(self.raw_spec)))

    def _features_and_label(self, serialized: Any) -> tuple[Tensors, Any]:
        """Return the model's inputs and the label, shape `(batch, 1)`, for serialized examples of shape `(batch,)`."""
        name = self.feature_set.label.name
        raw = tf.io.parse_example(serialized, {**self.raw_spec, name: self.label_spec})
        transformed = self._layer(raw)
        return self._model_inputs(transformed), transformed[name]

    def transformed(self, raw: Tensors) -> Tensors:
        """Return the model's inputs for parsed raw columns."""
        return self._model_inputs(self._layer(raw))

    def _model_inputs(self, transformed: Tensors) -> Tensors:
        return {item.name: transformed[item.name] for item in model_inputs(self.feature_set)}
