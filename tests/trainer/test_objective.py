"""Every term is what its paper says, none costs nothing, and no trace of them is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas.training import Regularisation
from trainer.model_state import state_of
from trainer.objective import Anchor, AnchoredModel, strengths

Small = Callable[..., tuple[AnchoredModel, dict[str, Any], Any]]


def _gradients(model: AnchoredModel, inputs: Any, labels: Any, *, training: bool) -> list[Any]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=inputs, y=labels, y_pred=model(inputs, training=False), training=training)
    values = [variable.value for variable in model.trainable_variables]
    return [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, values)]


def test_l2_sp_and_ewc_pull_towards_the_base(small: Small) -> None:
    model, inputs, labels = small("binary")
    random = np.random.default_rng(2)
    base = {path: random.normal(size=array.shape).astype("float32") for path, array in state_of(model).weights.items()}
    fisher = {path: random.gamma(1.0, size=array.shape).astype("float32") for path, array in base.items()}
    del fisher["wide_c/embeddings"]  # new to the model: nothing holds it but L2-SP
    model.anchor = Anchor(model, Regularisation(l2_sp=0.3, ewc=2.0))
    model.anchor.assign(base, fisher)
    held, free = (_gradients(model, inputs, labels, training=training) for training in (True, False))
    for variable, one, two in zip(model.trainable_variables, held, free, strict=True):
        strength = 0.3 + 2.0 * fisher.get(variable.path, 0.0)
        expected = strength * (np.asarray(variable) - base[variable.path])
        np.testing.assert_allclose(one - two, expected, rtol=1e-4, atol=1e-5)


def _cross_entropy(target: Any, output: Any) -> float:
    return float(-np.mean(np.sum(target * np.log(output), axis=1)))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_distillation_asks_for_the_output_of_the_base(task: str, small: Small) -> None:
    model, inputs, labels = small(task)
    base_output = np.asarray(model(inputs), np.float64)
    model.anchor = Anchor(model, Regularisation(distillation=0.25))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1)
    output = np.asarray(model(inputs), np.float64)
    loss = model.compute_loss(x=inputs, y=labels, y_pred=tf.constant(output, tf.float32), training=True)
    match task:
        case "binary":
            both = [np.concatenate([array, 1 - array], axis=1) for array in (labels, base_output, output)]
            expected = 0.75 * _cross_entropy(both[0], both[2]) + 0.25 * _cross_entropy(both[1], both[2])
        case "multiclass":
            one_hot = np.eye(3)[labels[:, 0]]
            expected = 0.75 * _cross_entropy(one_hot, output) + 0.25 * _cross_entropy(base_output, output)
        case _:
            expected = 0.75 * np.mean((labels - output) ** 2) + 0.25 * np.mean((base_output - output) ** 2)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_validation_loss_is_on_the_labels_alone(small: Small) -> None:
    model, inputs, labels = small("binary")
    arguments = {"x": inputs, "y": labels, "y_pred": model(inputs), "training": False}
    plain = float(model.compute_loss(**arguments))
    model.anchor = Anchor(model, Regularisation(l2_sp=1.0, ewc=1.0, distillation=0.5))
    model.anchor.assign({path: array + 1 for path, array in state_of(model).weights.items()}, {})
    assert float(model.compute_loss(**arguments)) == plain


class CountingModel(AnchoredModel):
    """Counts how often Python computes its loss: once a trace."""

    num_traces = 0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.num_traces += 1
        return super().compute_loss(*args, **kwargs)


def test_another_base_takes_effect_without_another_trace(small: Small) -> None:
    plain, inputs, labels = small("binary")
    model = CountingModel(plain.input, plain.outputs[0])
    model.compile(keras.optimizers.SGD(0.005), "binary_crossentropy")
    model.anchor = Anchor(model, Regularisation(l2_sp=100.0))
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat()
    model.fit(data, steps_per_epoch=1, shuffle=False, verbose=0)
    traces = model.num_traces
    base = {path: np.full_like(array, 7.0) for path, array in state_of(model).weights.items()}
    model.anchor.assign(base, {})
    model.fit(data, steps_per_epoch=20, shuffle=False, verbose=0)
    assert model.num_traces == traces
    for weight in model.weights:
        np.testing.assert_allclose(np.asarray(weight), 7.0, atol=0.1)


def test_anchor_is_no_part_of_the_model_on_disk(small: Small, tmp_path: Path) -> None:
    model, inputs, _ = small("binary")
    paths = [variable.path for variable in model.variables]
    model.save(tmp_path / "free.keras")
    model.anchor = Anchor(model, Regularisation(l2_sp=1.0, ewc=1.0, distillation=0.5))
    assert [variable.path for variable in model.variables] == paths
    model.save(tmp_path / "held.keras")
    loaded = keras.saving.load_model(tmp_path / "held.keras", safe_mode=True)
    assert isinstance(loaded, AnchoredModel)
    assert loaded.anchor is None
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    sizes = [(tmp_path / name).stat().st_size for name in ("free.keras", "held.keras")]
    assert sizes[0] == sizes[1]


def test_model_without_an_anchor_trains_as_plain_keras_does(small: Small) -> None:
    model, inputs, labels = small("binary")
    plain = keras.Model(model.input, model.outputs[0])
    start = state_of(model)
    weights = []
    for one in (model, plain):
        one.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
        one.set_weights([start.weights[weight.path] for weight in one.weights])
        one.fit(inputs, labels, batch_size=10, shuffle=False, verbose=0)
        weights.append(one.get_weights())
    for with_class, without in zip(*weights, strict=True):
        np.testing.assert_array_equal(with_class, without)


def test_strengths_are_those_of_the_terms_switched_on() -> None:
    assert strengths(Regularisation(fisher_examples=5)) == {}
    assert strengths(Regularisation(ewc=1.0, distillation=0.5)) == {"ewc": 1.0, "distillation": 0.5}
