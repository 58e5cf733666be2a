"""The user's module of a penguin-style pipeline: `preprocessing_fn` is the project's own, `run_fn` is the example's."""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

from schemas.features import FeatureSet
from schemas.transformed import DenseInput, model_inputs

FEATURE_SET_KEY = "feature_set"
HIDDEN_UNITS_KEY = "hidden_units"
LEARNING_RATE_KEY = "learning_rate"
SEED_KEY = "seed"
BATCH_SIZE = 256


def run_fn(fn_args: Any) -> None:
    """Train on materialised, transformed examples and save the model with its signatures."""
    config = fn_args.custom_config
    features = FeatureSet.model_validate_json(config[FEATURE_SET_KEY])
    keras.utils.set_random_seed(config[SEED_KEY])
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    train, evaluation = (
        _dataset(files, fn_args.data_accessor, transform_output, features)
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    model = _model(features, config)
    model.fit(
        train,
        steps_per_epoch=fn_args.train_steps,
        validation_data=evaluation,
        validation_steps=fn_args.eval_steps,
        callbacks=[keras.callbacks.TensorBoard(log_dir=fn_args.model_run_dir, update_freq="epoch")],
        verbose=0,
    )
    signatures = _signatures(model, transform_output, features.label.name)
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures=signatures)


def _dataset(files: Any, data_accessor: Any, transform_output: Any, features: FeatureSet) -> tf.data.Dataset:
    options = tfxio.TensorFlowDatasetOptions(batch_size=BATCH_SIZE, label_key=features.label.name)
    names = [item.name for item in model_inputs(features)]
    batches = data_accessor.tf_dataset_factory(files, options, transform_output.transformed_metadata.schema)
    return batches.map(lambda columns, label: ({name: columns[name] for name in names}, label)).repeat()


def _model(features: FeatureSet, config: dict[str, Any]) -> keras.Model:
    """Return a wide and deep model: an embedding and a wide weight for every id, dense inputs as they are."""
    items = model_inputs(features)
    inputs = {
        item.name: keras.Input((1,), name=item.name, dtype="float32" if isinstance(item, DenseInput) else "int64")
        for item in items
    }
    dense = [inputs[item.name] for item in items if isinstance(item, DenseInput)]
    deep, wide = [*dense], [keras.layers.Dense(1)(keras.layers.Concatenate()(dense))]
    for item in items:
        if not isinstance(item, DenseInput):
            ids = inputs[item.name]
            deep.append(keras.layers.Flatten()(keras.layers.Embedding(item.cardinality, item.embedding_dim)(ids)))
            wide.append(keras.layers.Flatten()(keras.layers.Embedding(item.cardinality, 1)(ids)))
    tensor = keras.layers.Concatenate()(deep)
    for units in config[HIDDEN_UNITS_KEY]:
        tensor = keras.layers.Dense(units, activation="relu")(tensor)
    logits = keras.layers.Add()([*wide, keras.layers.Dense(1)(tensor)])
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(logits))
    optimizer = keras.optimizers.Adam(config[LEARNING_RATE_KEY])
    model.compile(optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return model


def _signatures(model: keras.Model, transform_output: Any, label: str) -> dict[str, Any]:
    model.tft_layer = transform_output.transform_features_layer()
    examples = tf.TensorSpec([None], tf.string, name="examples")

    @tf.function(input_signature=[examples])
    def serve(examples: Any) -> dict[str, Any]:
        spec = transform_output.raw_feature_spec()
        spec.pop(label)
        transformed = model.tft_layer(tf.io.parse_example(examples, spec))
        return {"probability": model({name: transformed[name] for name in model.input})}

    @tf.function(input_signature=[examples])
    def transform_features(examples: Any) -> Any:
        return model.tft_layer(tf.io.parse_example(examples, transform_output.raw_feature_spec()))

    return {"serving_default": serve, "transform_features": transform_features}
