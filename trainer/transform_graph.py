"""The transform graph as the trainer and the served model apply it: one object, so that the two cannot differ."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from core.digests import digest_of_folder
from core.errors import TrainingError
from schemas.analysis import token_text
from schemas.features import FeatureSet, VocabularyFeature
from schemas.transformed import model_inputs

Tensors = dict[str, Any]
# What TensorFlow Transform writes into the file of a vocabulary that has no token.
_NO_TOKEN = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"


class TransformGraph(tf.Module):
    """A transform graph on disk, loaded once, with the parsing of the raw examples it takes.

    Args:
        folder: TransformGraph artifact.
        feature_set: Features that the graph was built from.
    """

    def __init__(self, folder: Path, feature_set: FeatureSet) -> None:
        super().__init__()
        self.feature_set = feature_set
        self.folder = folder
        self.digest = digest_of_folder(folder)
        self._output = tft.TFTransformOutput(str(folder))
        spec = self._output.raw_feature_spec()
        self.raw_types: dict[str, tf.DType] = {name: item.dtype for name, item in spec.items()}
        self.label_spec = spec.pop(feature_set.label.name)
        # A user's own function may read any column; ours reads those of the features alone.
        self.raw_spec: dict[str, Any] = (
            {name: spec[name] for name in feature_set.features} if feature_set.preprocessing_fn is None else spec
        )
        self._layer = self._output.transform_features_layer()
        examples = tf.TensorSpec((None,), tf.string)
        # For streams: one trace, shared by the training and the validation batches.
        self.features_and_label = tf.function(self.transformed_with_label, input_signature=[examples], autograph=False)

    def features(self, serialized: Any) -> Tensors:
        """Return the model's inputs for serialized examples of shape `(batch,)`; they need no label."""
        return self.transformed(tf.io.parse_example(serialized, dict(self.raw_spec)))

    def transformed_with_label(self, serialized: Any) -> tuple[Tensors, Any]:
        """Return the model's inputs and the label, shape `(batch, 1)`, for serialized examples of shape `(batch,)`."""
        name = self.feature_set.label.name
        raw = tf.io.parse_example(serialized, {**self.raw_spec, name: self.label_spec})
        transformed = self._apply(raw)
        return self._model_inputs(transformed), transformed[name]

    def transformed(self, raw: Tensors) -> Tensors:
        """Return the model's inputs for parsed raw columns."""
        return self._model_inputs(self._apply(raw))

    def constants(self, names: list[str]) -> dict[str, tuple[float, ...]]:
        """Return outputs that are equal in every row: what the graph was analysed to, as `schemas.analysis` says.

        Raises:
            TrainingError: the graph has no such output.
        """
        # Any row will do; this one has zeros and empty strings where the schema demands a value.
        spec = {name: _with_default(item) for name, item in self.raw_spec.items()}
        outputs = self._apply(tf.io.parse_example([b""], spec))
        absent = sorted(set(names) - outputs.keys())
        if absent:
            raise TrainingError(
                f"The transform graph does not say what it was analysed to. Expected the outputs {sorted(names)}; "
                f"received none of {absent}. Plan a cold start: it builds the graph anew."
            )
        return {name: tuple(np.asarray(outputs[name])[0].tolist()) for name in names}

    def vocabulary(self, name: str) -> tuple[str, ...]:
        """Return the tokens of a vocabulary feature in the order of their ids, as `token_text` writes them."""
        spec = self.feature_set.features[name]
        if not isinstance(spec, VocabularyFeature):
            raise TypeError(f"Feature {name!r} has no vocabulary. Expected kind 'vocabulary'; received {spec.kind!r}.")
        # The file of a refreshed vocabulary may hold more tokens than have an id.
        tokens = self._output.vocabulary_by_name(name)[: spec.capacity]
        return tuple(token_text(token) for token in tokens if token != _NO_TOKEN)

    def _apply(self, raw: Tensors) -> Tensors:
        # Not by calling the layer: Keras would count it as built, and trace it once more whenever it is saved, which
        # takes longer than all the rest of saving a model and is never read.
        outputs: Tensors = self._layer.call(raw)
        return outputs

    def _model_inputs(self, transformed: Tensors) -> Tensors:
        return {item.name: transformed[item.name] for item in model_inputs(self.feature_set)}


def _with_default(spec: Any) -> Any:
    if not isinstance(spec, tf.io.FixedLenFeature):
        return spec
    default = np.full(spec.shape, "" if spec.dtype == tf.string else 0)
    return tf.io.FixedLenFeature(spec.shape, spec.dtype, default_value=default.tolist())
