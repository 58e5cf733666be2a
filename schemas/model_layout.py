"""Where things lie in a Model artifact and what its signatures are called; trainer, gate and serving rely on it."""

SERVING_FOLDER = "Format-Serving"
TRAINING_FOLDER = "Format-Training"
KERAS_FILE = "model.keras"

SERVING_SIGNATURE = "serving_default"  # serialized tf.Example, shape (batch,), input name `examples`
TRANSFORM_SIGNATURE = "transform_features"  # serialized tf.Example -> the transformed tensors
COLUMNAR_SIGNATURE = "predict_columns"  # one tensor of shape (batch, 1) per raw feature, by column name
EXAMPLES_INPUT = "examples"
# Output names by task. Shape (batch, 1), or (batch, num_classes) for multiclass.
PROBABILITY_OUTPUT = "probability"
PROBABILITIES_OUTPUT = "probabilities"
VALUE_OUTPUT = "value"
