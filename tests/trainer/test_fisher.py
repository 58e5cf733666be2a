"""The Fisher information is the closed form where there is one, and the mean of every example's own squares."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas.features import LabelSpec
from trainer import fisher
from trainer.heads import head_for
from trainer.objective import AnchoredModel

Small = Callable[..., tuple[AnchoredModel, dict[str, Any], Any]]
LABELS = {
    "binary": LabelSpec(name="late"),
    "multiclass": LabelSpec(name="outcome", task="multiclass", classes=("early", "late", "on time")),
    "regression": LabelSpec(name="delay", task="regression"),
}


def _fisher(model: AnchoredModel, task: str, inputs: Any, labels: Any, num_examples: int) -> dict[str, Any]:
    batches = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(7)
    return fisher.fisher_information(model, head_for(LABELS[task]), batches, num_examples)


@pytest.mark.parametrize("task", list(LABELS))
def test_linear_model_has_the_closed_form(task: str, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher, "MAX_CHUNK_EXAMPLES", 9)  # the last chunk is smaller
    model, inputs, labels = small(task)
    information = _fisher(model, task, inputs, labels, len(labels))
    # The variance of a label by the model, per example and logit: p * (1 - p), or one.
    output = np.asarray(model(inputs), np.float64)
    variance = np.ones_like(output) if task == "regression" else output * (1 - output)
    scale, offset = (np.asarray(weight) for weight in model.get_layer("numeric_affine").weights)
    z = np.concatenate([inputs["a"], inputs["b"]], axis=1) * scale + offset
    np.testing.assert_allclose(information["wide/bias"], variance.mean(axis=0), rtol=1e-4)
    expected = np.einsum("nk,nd->dk", variance, z**2) / len(z)
    np.testing.assert_allclose(information["wide/kernel"], expected, rtol=1e-4)
    for row in range(5):
        expected = (variance * (inputs["c"] == row)).mean(axis=0)
        np.testing.assert_allclose(information["wide_c/embeddings"][row], expected, rtol=1e-4, atol=1e-8)


def test_no_more_examples_are_used_than_asked_for(small: Small) -> None:
    model, inputs, labels = small("regression")
    information = _fisher(model, "regression", inputs, labels, 3)
    scale, offset = (np.asarray(weight) for weight in model.get_layer("numeric_affine").weights)
    expected = np.mean((inputs["a"][:3, 0] * scale[0] + offset[0]) ** 2)
    assert information["wide/kernel"][0, 0] == pytest.approx(expected, rel=1e-4)


def test_deep_model_has_the_squares_of_single_examples(small: Small) -> None:
    model, inputs, labels = small("binary", model={"kind": "dnn", "hidden_units": (3,)})
    information = _fisher(model, "binary", inputs, labels, 5)
    expected = dict.fromkeys(information, 0.0)
    for index in range(5):
        with tf.GradientTape() as tape:
            probability = model({name: tensor[index : index + 1] for name, tensor in inputs.items()})[0, 0]
        gradients = tape.gradient(probability, [variable.value for variable in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            # d p = p * (1 - p) * d z
            squares = tf.convert_to_tensor(gradient) ** 2 / (probability * (1 - probability))
            expected[variable.path] = expected[variable.path] + squares.numpy() / 5
    for path, array in information.items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-3, atol=1e-8)
    assert max(array.max() for array in information.values()) > 0
