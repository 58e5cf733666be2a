"""Predictions from a SavedModel, in this process. TensorFlow is imported when a model is loaded, not before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ServingError, did_you_mean
from schemas.model_layout import COLUMNAR_SIGNATURE, EXAMPLES_INPUT, SERVING_SIGNATURE

Scores = npt.NDArray[np.float32]
# What a SavedModel consists of: a program, the files it reads, and the numbers in its variables.
PROGRAM_FILE = "saved_model.pb"
ASSETS_FOLDER = "assets"
VARIABLES = "variables/variables"


class Predictor:
    """A loaded model that scores serialized examples or columns.

    Args:
        model_folder: A SavedModel: a version that was pushed, or a model artifact's `Format-Serving`.

    Raises:
        ServingError: the folder cannot be loaded as a SavedModel.
    """

    def __init__(self, model_folder: Path) -> None:
        import tensorflow as tf

        self._folder = model_folder
        try:
            self._model: Any = tf.saved_model.load(str(model_folder))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ServingError(
                f"{str(model_folder)!r} cannot be loaded: {error}. Expected a SavedModel. "
                "Push it again, or serve the version before it."
            ) from error

    def take_variables(self, model_folder: Path) -> None:
        """Become another model whose SavedModel has the same program, byte for byte, and other numbers.

        That takes a hundredth of the time that loading it does.

        Args:
            model_folder: The other SavedModel.

        Raises:
            ServingError: its variables cannot be read, or are not this program's; what is loaded is no model then.
        """
        import tensorflow as tf

        self._folder = model_folder
        try:
            checkpoint = tf.train.Checkpoint(root=self._model)
            checkpoint.read(str(model_folder / VARIABLES)).assert_existing_objects_matched()
        except (OSError, ValueError, AssertionError, tf.errors.OpError) as error:
            raise ServingError(
                f"The variables of {str(model_folder)!r} cannot be read: {error}. Expected those of its own program. "
                "Push it again, or serve the version before it."
            ) from error

    def predict_examples(self, examples: Sequence[bytes]) -> Scores:
        """Score serialized `tf.Example` records.

        Returns:
            The model's only output, shape `(num_examples, num_outputs)`: one probability or value, or one probability
            per class.

        Raises:
            ServingError: the model has no such signature, or refuses the input.
        """
        return self._call(SERVING_SIGNATURE, {EXAMPLES_INPUT: list(examples)})

    def predict_columns(self, columns: Mapping[str, Any]) -> Scores:
        """Score examples given as columns; a column that is left out, or None, is an unknown value.

        Args:
            columns: Per column one value, or a sequence of one value per example.

        Returns:
            As `predict_examples`.

        Raises:
            ServingError: the model has no such signature, a column is unknown, or a value has the wrong type.
        """
        signature = self._signature(COLUMNAR_SIGNATURE)
        specs = signature.structured_input_signature[1]
        given = {name: value for name, value in columns.items() if value is not None}
        for name in given:
            if name not in specs:
                raise ServingError(
                    f"The model has no column {name!r}. Expected columns {sorted(specs)}; received {sorted(given)}."
                    f"{did_you_mean(name, specs)}"
                )
        arrays = {name: _column(name, value, specs[name]) for name, value in given.items()}
        num_examples = max((len(array) for array in arrays.values()), default=1)
        missing = {name: _unknown(name, num_examples, spec) for name, spec in specs.items() if name not in arrays}
        return self._call(COLUMNAR_SIGNATURE, arrays | missing)

    def _signature(self, name: str) -> Any:
        if name not in self._model.signatures:
            raise ServingError(
                f"The model in {str(self._folder)!r} has no signature {name!r}. Expected it among "
                f"{sorted(self._model.signatures)}. Export the model with the signatures of schemas/model_layout.py."
            )
        return self._model.signatures[name]

    def _call(self, name: str, inputs: Mapping[str, Any]) -> Scores:
        import tensorflow as tf

        signature = self._signature(name)
        try:
            outputs = signature(**{key: tf.constant(value) for key, value in inputs.items()})
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ServingError(
                f"Signature {name!r} of {str(self._folder)!r} refused its input: {error}. Expected inputs "
                f"{_spec_words(signature)}. Send values of those types, all of the same length."
            ) from error
        if len(outputs) != 1:
            raise ServingError(
                f"Signature {name!r} of {str(self._folder)!r} has outputs {sorted(outputs)}. Expected exactly one. "
                "Export the model with the signatures of schemas/model_layout.py."
            )
        scores: Scores = next(iter(outputs.values())).numpy()
        return scores


def _column(name: str, value: Any, spec: Any) -> npt.NDArray[Any]:
    """Return the values in the column's type, shape `(num_examples, num_values)`."""
    array = np.asarray(value)
    if (spec.dtype.as_numpy_dtype is object) != (array.dtype.kind in "OSU"):
        raise ServingError(
            f"Column {name!r} has the wrong type. Expected {spec.dtype.name}; received {name}={value!r}. "
            "Send text as text and numbers as numbers."
        )
    array = array.astype(spec.dtype.as_numpy_dtype)
    return array.reshape(-1, 1) if array.ndim < 2 else array


def _unknown(name: str, num_examples: int, spec: Any) -> npt.NDArray[Any]:
    """Return what the columnar signature takes for a missing value: an empty text or NaN."""
    if spec.dtype.is_integer:
        raise ServingError(
            f"Column {name!r} is missing. Expected an integer, since no integer means unknown; received none. Give one."
        )
    value: Any = np.nan if spec.dtype.is_floating else ""
    return np.full((num_examples, 1), value, dtype=spec.dtype.as_numpy_dtype)


def _spec_words(signature: Any) -> str:
    specs = signature.structured_input_signature[1]
    return ", ".join(f"{name}: {specs[name].dtype.name} {tuple(specs[name].shape)}" for name in sorted(specs))
