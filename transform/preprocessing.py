"""`preprocessing_fn` for TFX Transform, built from the config's feature set. How a feature is computed is elsewhere."""

from typing import Any

import tensorflow as tf

from core.errors import SchemaError, UserCodeError, did_you_mean
from core.functions import load_function
from schemas.features import (
    FEATURE_SET_KEY,
    BucketizedFeature,
    CyclicFeature,
    FeatureSet,
    HashedFeature,
    NumericFeature,
    VocabularyFeature,
)
from schemas.transformed import DenseInput, model_inputs
from transform.features import bucketized_inputs, cyclic_inputs, hashed_inputs, numeric_inputs, vocabulary_inputs
from transform.labels import label_output
from transform.raw_tensors import RawTensor


def preprocessing_fn(inputs: dict[str, RawTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return the model's inputs and the label from the raw columns of a batch.

    Args:
        inputs: Raw columns by name, as the reviewed schema shapes them.
        custom_config: `{"feature_set": FeatureSet as JSON}`.

    Returns:
        Exactly what `schemas.transformed.model_inputs` lists, and the label under its own name.

    Raises:
        SchemaError: a feature's column is not in the schema, or has a type that its kind cannot take.
        UserCodeError: the user's function raised, or returned something else than promised.
    """
    feature_set = FeatureSet.model_validate_json(custom_config[FEATURE_SET_KEY])
    label = feature_set.label
    # A user's function may make features of other columns; what it returns is checked below.
    names = [] if feature_set.preprocessing_fn else list(feature_set.features)
    _check_columns([*names, label.name], inputs)
    # The label is kept from the features' code: what it cannot see, it cannot leak.
    columns = {name: column for name, column in inputs.items() if name != label.name}
    if feature_set.preprocessing_fn is None:
        outputs = transformed_features(feature_set, columns)
    else:
        outputs = _user_outputs(feature_set.preprocessing_fn, feature_set, columns)
    return {**outputs, label.name: label_output(label, inputs[label.name])}


def transformed_features(feature_set: FeatureSet, columns: dict[str, RawTensor]) -> dict[str, tf.Tensor]:
    """Return every model input, without the label, from the raw columns."""
    numeric = {name: spec for name, spec in feature_set.features.items() if isinstance(spec, NumericFeature)}
    outputs = numeric_inputs(numeric, columns)
    for name, spec in feature_set.features.items():
        match spec:
            case BucketizedFeature():
                outputs |= bucketized_inputs(name, spec, columns[name])
            case VocabularyFeature():
                outputs |= vocabulary_inputs(name, spec, columns[name])
            case HashedFeature():
                outputs |= hashed_inputs(name, spec, columns[name])
            case CyclicFeature():
                outputs |= cyclic_inputs(name, spec, columns[name])
    return outputs


def _check_columns(names: list[str], inputs: dict[str, RawTensor]) -> None:
    for name in names:
        if name not in inputs:
            raise SchemaError(
                f"Column {name!r} is in the config but not in the schema. Expected one of {sorted(inputs)}; "
                f"received {name!r}. Add it to the schema or correct the config.{did_you_mean(name, inputs)}"
            )


def _user_outputs(reference: str, feature_set: FeatureSet, columns: dict[str, RawTensor]) -> dict[str, tf.Tensor]:
    function = load_function(reference)
    try:
        outputs = function(dict(columns))
    except Exception as error:
        raise UserCodeError(
            f"preprocessing_fn {reference!r} raised {type(error).__name__}: {error}. Expected transformed tensors by "
            f"name; received an exception. Fix the function, or remove `preprocessing_fn` from the config."
        ) from error
    expected = {
        item.name: (tf.float32, [None, 1]) if isinstance(item, DenseInput) else (tf.int64, [None, item.num_values])
        for item in model_inputs(feature_set)
    }
    received = (
        {name: (tensor.dtype, tensor.shape) for name, tensor in outputs.items()} if isinstance(outputs, dict) else {}
    )
    wrong = sorted(
        name
        for name in expected.keys() | received.keys()
        if name not in expected
        or name not in received
        or received[name][0] != expected[name][0]
        or not received[name][1].is_compatible_with(expected[name][1])
    )
    if wrong:
        shown = {name: (_described(expected.get(name)), _described(received.get(name))) for name in wrong[:10]}
        raise UserCodeError(
            f"preprocessing_fn {reference!r} returned {len(wrong)} tensors that do not fit the config's features. "
            f"Expected and received, by name: {shown}. Return exactly the tensors that the config's features imply."
        )
    return dict(outputs)


def _described(signature: tuple[tf.DType, Any] | None) -> str:
    return "none" if signature is None else f"{signature[0].name}{list(signature[1])}"
