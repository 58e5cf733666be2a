"""The model, built from the config's features and options: one function per kind. Heads and layers are elsewhere."""

import keras

from core.errors import ConfigError, UserCodeError
from core.functions import load_function
from schemas.features import FeatureSet, NumericFeature
from schemas.training import ModelOptions, TrainingOptions
from schemas.transformed import DenseInput, IdInput, model_inputs
from trainer.heads import Head, head_for
from trainer.layers import Cross, MaskedMeanEmbedding, NumericAffine
from trainer.objective import AnchoredModel
from trainer.optimizer import build_optimizer, cold_schedule

EMBEDDING_PREFIX = "embedding_"
WIDE_PREFIX = "wide_"
WIDE_LAYER = "wide"
AFFINE_LAYER = "numeric_affine"
EXTENSION_PREFIX = "extension_"
Tensors = dict[str, keras.KerasTensor]


def build_model(feature_set: FeatureSet, options: TrainingOptions) -> AnchoredModel:
    """Return the compiled model with random weights and an optimizer at step 0.

    It takes the tensors of `schemas.transformed.model_inputs` by name and returns a tensor of shape
    `(batch, head.units)`. All layers of ours have fixed names, by which a warm start finds the weights again.

    Raises:
        UserCodeError: the user's model function raised, or returned no tensor.
    """
    head = head_for(feature_set.label)
    inputs = {item.name: _input(item) for item in model_inputs(feature_set)}
    rescaled = _rescaled(inputs, feature_set)
    logits = _logits(rescaled, feature_set, options.model, head)
    if options.model.extension_units:
        branch = _extension(rescaled, feature_set, options.model, head)
        logits = keras.layers.Add(name="extended_logits")([logits, branch])
    outputs = keras.layers.Activation(head.activation, name=head.output, dtype="float32")(logits)
    model = AnchoredModel(inputs, outputs, name=options.model.kind)
    model.schedule = cold_schedule(options)
    # `trainer.learner` makes the steps; compiling names loss and metrics, and has the optimizer saved with the model.
    optimizer = build_optimizer(options, model.schedule)
    model.compile(optimizer, head.loss, metrics=head.metrics(), jit_compile=False, auto_scale_loss=False)
    model.optimizer.build(model.trainable_variables)
    return model


def numeric_features(feature_set: FeatureSet) -> list[str]:
    """Return the numeric features in the order in which the affine stage takes them."""
    return [name for name, spec in feature_set.features.items() if isinstance(spec, NumericFeature)]


def extension_layers(options: ModelOptions) -> list[str]:
    """Return the names of the extension's layers: one a width, the first reading all inputs, and one for the logits."""
    return [
        EXTENSION_PREFIX + str(i) for i in (*range(len(options.extension_units)), "head") if options.extension_units
    ]


def _input(item: DenseInput | IdInput) -> keras.KerasTensor:
    if isinstance(item, DenseInput):
        return keras.Input((1,), name=item.name, dtype="float32")
    return keras.Input((item.num_values,), name=item.name, dtype="int64")


def _rescaled(inputs: Tensors, feature_set: FeatureSet) -> Tensors:
    """Put the affine stage between the numeric inputs and everything else, so that a refresh may rescale them."""
    names = numeric_features(feature_set)
    if not names:
        return inputs
    outputs = NumericAffine(name=AFFINE_LAYER)([inputs[name] for name in names])
    return {**inputs, **dict(zip(names, outputs, strict=True))}


def _logits(inputs: Tensors, feature_set: FeatureSet, options: ModelOptions, head: Head) -> keras.KerasTensor:
    match options.kind:
        case "linear":
            return _wide_logits(inputs, feature_set, head)
        case "dnn":
            return _dense_head(_hidden(_deep_vector(inputs, feature_set), options), head)
        case "wide_deep":
            deep = _dense_head(_hidden(_deep_vector(inputs, feature_set), options), head)
            return keras.layers.Add(name="logits")([_wide_logits(inputs, feature_set, head), deep])
        case "dcn_v2":
            crossed = _crossed(_deep_vector(inputs, feature_set), options)
            return _dense_head(_hidden(crossed, options), head)
        case "custom":
            return _dense_head(_user_tensor(inputs, feature_set, options), head)


def _dense_head(tensor: keras.KerasTensor, head: Head) -> keras.KerasTensor:
    return keras.layers.Dense(head.units, name="head")(tensor)


def _wide_logits(inputs: Tensors, feature_set: FeatureSet, head: Head) -> keras.KerasTensor:
    """Sum one weight per id and one per dense input, shape `(batch, head.units)`."""
    parts = []
    if dense := _dense_vectors(inputs, feature_set):
        parts.append(keras.layers.Dense(head.units, name=WIDE_LAYER)(_joined(dense, "wide_inputs")))
    for item in _id_inputs(feature_set):
        layer = MaskedMeanEmbedding(
            item.cardinality, head.units, embeddings_initializer="zeros", name=WIDE_PREFIX + item.name
        )
        parts.append(layer(inputs[item.name]))
    return parts[0] if len(parts) == 1 else keras.layers.Add(name="wide_logits")(parts)


def _extension(inputs: Tensors, feature_set: FeatureSet, options: ModelOptions, head: Head) -> keras.KerasTensor:
    """Return what the extension adds to the logits, shape `(batch, head.units)`: zero until it has learned.

    It has embeddings of its own: with all else frozen it learns as freely, and a user's model need not have any.
    """
    *hidden, last = extension_layers(options)
    tensor = _deep_vector(inputs, feature_set, EXTENSION_PREFIX)
    for name, units in zip(hidden, options.extension_units, strict=True):
        tensor = keras.layers.Dense(units, activation="relu", name=name)(tensor)
    return keras.layers.Dense(head.units, kernel_initializer="zeros", name=last)(tensor)


def _deep_vector(inputs: Tensors, feature_set: FeatureSet, prefix: str = "") -> keras.KerasTensor:
    """Join the dense inputs and the embeddings, shape `(batch, width)`; `prefix` begins the names of the layers."""
    vectors = _dense_vectors(inputs, feature_set)
    for item in _id_inputs(feature_set):
        name = prefix + EMBEDDING_PREFIX + item.name
        vectors.append(MaskedMeanEmbedding(item.cardinality, item.embedding_dim, name=name)(inputs[item.name]))
    return _joined(vectors, prefix + "deep_inputs")


def _hidden(tensor: keras.KerasTensor, options: ModelOptions) -> keras.KerasTensor:
    for index, units in enumerate(options.hidden_units):
        tensor = keras.layers.Dense(units, activation="relu", name=f"hidden_{index}")(tensor)
        if options.dropout:
            tensor = keras.layers.Dropout(options.dropout, name=f"dropout_{index}")(tensor)
    return tensor


def _crossed(first: keras.KerasTensor, options: ModelOptions) -> keras.KerasTensor:
    tensor = first
    for index in range(options.cross_layers):
        tensor = Cross(name=f"cross_{index}")([first, tensor])
    return tensor


def _user_tensor(inputs: Tensors, feature_set: FeatureSet, options: ModelOptions) -> keras.KerasTensor:
    if options.function is None:
        raise ConfigError(
            "Model kind 'custom' has no function. Expected model.function='module:function'; received function=None. "
            "Name your function, or choose another kind."
        )
    function = load_function(options.function)
    try:
        tensor = function(dict(inputs), feature_set, options)
    except Exception as error:
        raise UserCodeError(
            f"Model function {options.function!r} raised {type(error).__name__}: {error}. Expected the tensor before "
            "the head; received an exception. Fix the function, or choose another model kind."
        ) from error
    if not isinstance(tensor, keras.KerasTensor) or len(tensor.shape) != 2:
        raise UserCodeError(
            f"Model function {options.function!r} returned no usable tensor. Expected a KerasTensor of shape "
            f"(batch, width); received {tensor!r:.200}. Return the tensor before the head."
        )
    return tensor


def _dense_vectors(inputs: Tensors, feature_set: FeatureSet) -> list[keras.KerasTensor]:
    return [inputs[item.name] for item in model_inputs(feature_set) if isinstance(item, DenseInput)]


def _id_inputs(feature_set: FeatureSet) -> list[IdInput]:
    return [item for item in model_inputs(feature_set) if isinstance(item, IdInput)]


def _joined(tensors: list[keras.KerasTensor], name: str) -> keras.KerasTensor:
    return tensors[0] if len(tensors) == 1 else keras.layers.Concatenate(name=name)(tensors)
