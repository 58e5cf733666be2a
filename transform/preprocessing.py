"""`preprocessing_fn` for TFX Transform, built from the config's feature set. How a feature is computed is elsewhere."""

from collections import Counter
from typing import Any, TypeVar

import tensorflow as tf

from core.errors import ConfigError, SchemaError, UserCodeError, did_you_mean
from core.functions import load_function
from schemas.analysis import (
    BASE_ANALYSIS_KEY,
    BUCKETS_ANALYSIS_SUFFIX,
    NUMERIC_ANALYSIS_SUFFIX,
    Analysis,
    BucketAnalysis,
    NumericAnalysis,
    VocabularyAnalysis,
)
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

_Kind = TypeVar("_Kind", NumericAnalysis, BucketAnalysis, VocabularyAnalysis)


def preprocessing_fn(inputs: dict[str, RawTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return the model's inputs and the label from the raw columns of a batch.

    Args:
        inputs: Raw columns by name, as the reviewed schema shapes them.
        custom_config: `{"feature_set": FeatureSet as JSON}`, and for a refresh `"base_analysis": Analysis as JSON`.

    Returns:
        What `schemas.transformed.model_inputs` lists, what the features were analysed to as `schemas.analysis` says,
        and the label under its own name. With a user's function, nothing is known of its analysis.

    Raises:
        ConfigError: two outputs would have one name; or the graph cannot be built on the base.
        SchemaError: a feature's column is not in the schema, or has a type that its kind cannot take.
        UserCodeError: the user's function raised, or returned something else than promised.
    """
    feature_set = FeatureSet.model_validate_json(custom_config[FEATURE_SET_KEY])
    base = custom_config.get(BASE_ANALYSIS_KEY)
    label = feature_set.label
    # A user's function may make features of other columns; what it returns is checked below.
    names = [] if feature_set.preprocessing_fn else list(feature_set.features)
    _check_columns([*names, label.name], inputs)
    _check_output_names(feature_set)
    # The label is kept from the features' code: what it cannot see, it cannot leak.
    columns = {name: column for name, column in inputs.items() if name != label.name}
    if feature_set.preprocessing_fn is None:
        analysis = Analysis.model_validate_json(base) if base else Analysis(features={})
        outputs = transformed_features(feature_set, columns, analysis)
    elif base:
        raise ConfigError(
            f"The transform graph of preprocessing_fn {feature_set.preprocessing_fn!r} cannot be refreshed. Expected "
            "no base model, because nobody knows what a function of your own analyses; received one. "
            "Plan a cold start."
        )
    else:
        outputs = _user_outputs(feature_set.preprocessing_fn, feature_set, columns)
    return {**outputs, label.name: label_output(label, inputs[label.name])}


def transformed_features(
    feature_set: FeatureSet, columns: dict[str, RawTensor], base: Analysis
) -> dict[str, tf.Tensor]:
    """Return every model input and what features were analysed to, without the label, from the raw columns.

    Args:
        feature_set: What to compute.
        columns: Raw columns.
        base: What the base model's graph was analysed to; a feature that it lacks is analysed anew.
    """
    numeric = {name: spec for name, spec in feature_set.features.items() if isinstance(spec, NumericFeature)}
    outputs = numeric_inputs(numeric, columns, _of_kind(NumericAnalysis, base))
    buckets, vocabularies = _of_kind(BucketAnalysis, base), _of_kind(VocabularyAnalysis, base)
    for name, spec in feature_set.features.items():
        match spec:
            case BucketizedFeature():
                outputs |= bucketized_inputs(name, spec, columns[name], buckets.get(name))
            case VocabularyFeature():
                outputs |= vocabulary_inputs(name, spec, columns[name], vocabularies.get(name))
            case HashedFeature():
                outputs |= hashed_inputs(name, spec, columns[name])
            case CyclicFeature():
                outputs |= cyclic_inputs(name, spec, columns[name])
    return outputs


def _of_kind(kind: type[_Kind], base: Analysis) -> dict[str, _Kind]:
    """Return the features of one kind; one whose kind was changed is not refreshed, and the Trainer will refuse it."""
    return {name: item for name, item in base.features.items() if isinstance(item, kind)}


def _check_output_names(feature_set: FeatureSet) -> None:
    outputs = [item.name for item in model_inputs(feature_set)] + [feature_set.label.name]
    if feature_set.preprocessing_fn is None:
        for name, spec in feature_set.features.items():
            if isinstance(spec, NumericFeature):
                outputs.append(name + NUMERIC_ANALYSIS_SUFFIX)
            elif isinstance(spec, BucketizedFeature):
                outputs.append(name + BUCKETS_ANALYSIS_SUFFIX)
    twice = sorted(name for name, count in Counter(outputs).items() if count > 1)
    if twice:
        raise ConfigError(
            f"The features' transformed columns would share names. Expected every name once; received {twice} twice: "
            "some names are made of a feature's name and a suffix such as '_missing', '_sin' or '_scaling'. "
            "Rename the column in the source."
        )


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
