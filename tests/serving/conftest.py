"""A SavedModel with the signatures of a served model, small enough to reason about."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from schemas.model_layout import COLUMNAR_SIGNATURE, SERVING_SIGNATURE


class TinyModel(tf.Module):
    """Probability 0.5 for an unknown temperature, else `sigmoid(weight * temp)`; 0 for a carrier of another country."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {
            "temp": tf.io.FixedLenFeature([1], tf.float32, float("nan")),
            "carrier": tf.io.FixedLenFeature([1], tf.string, ""),
            "hour": tf.io.FixedLenFeature([1], tf.int64, 0),
        }
        return {"probability": self._score(**tf.io.parse_example(examples, spec))}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 1], tf.string, name="carrier"),
            tf.TensorSpec([None, 1], tf.int64, name="hour"),
            tf.TensorSpec([None, 1], tf.float32, name="temp"),
        ]
    )
    def serve_columns(self, carrier: tf.Tensor, hour: tf.Tensor, temp: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": self._score(carrier=carrier, hour=hour, temp=temp)}

    def _score(self, carrier: tf.Tensor, hour: tf.Tensor, temp: tf.Tensor) -> tf.Tensor:
        known = tf.where(tf.math.is_nan(temp), 0.0, temp) + 0.0 * tf.cast(hour, tf.float32)
        return tf.where(carrier == "XX", 0.0, tf.sigmoid(self.weight * known))


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes the model and returns its folder."""

    def make(*, weight: float = 1.0, columnar: bool = True) -> Path:
        model = TinyModel(weight)
        signatures = {SERVING_SIGNATURE: model.serve}
        if columnar:
            signatures[COLUMNAR_SIGNATURE] = model.serve_columns
        folder = Path(tmp_path_factory.mktemp("model")) / "Format-Serving"
        tf.saved_model.save(model, str(folder), signatures=signatures)
        return folder

    return make
