"""Every kind of model has the promised inputs, outputs and names, and learns; user functions are checked."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from core.errors import ConfigError, UserCodeError
from pipeline.config import load_config
from schemas.features import FeatureSet
from schemas.training import ModelOptions, TrainingOptions
from schemas.transformed import IdInput, model_inputs
from trainer.layers import Cross, MaskedMeanEmbedding, NumericAffine
from trainer.model import build_model

FEATURE_SET = FeatureSet.model_validate(
    {
        "features": {
            "wind": {"kind": "numeric", "missing_indicator": True},
            "carrier": {"kind": "vocabulary", "capacity": 5},
            "tags": {"kind": "hashed", "num_buckets": 7, "multivalued": True, "max_values": 3},
        },
        "label": {"name": "late"},
    }
)
KINDS = ("linear", "dnn", "wide_deep", "dcn_v2")


def double_wind(inputs: dict[str, Any], feature_set: FeatureSet, options: ModelOptions) -> Any:
    """A user's model function."""
    return keras.layers.Dense(4, name="mine")(inputs["wind"])


def broken_function(inputs: dict[str, Any], feature_set: FeatureSet, options: ModelOptions) -> Any:
    """A user's model function that raises."""
    return inputs["wing"]


def useless_function(inputs: dict[str, Any], feature_set: FeatureSet, options: ModelOptions) -> Any:
    """A user's model function that returns no tensor."""
    return 3


def _batch(num_examples: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        item.name: random.integers(-1, item.cardinality, (num_examples, item.num_values))
        if isinstance(item, IdInput)
        else random.normal(size=(num_examples, 1)).astype(np.float32)
        for item in model_inputs(FEATURE_SET)
    }


def _options(**model: Any) -> TrainingOptions:
    return TrainingOptions(model=ModelOptions(**model), learning_rate=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_survives_saving(kind: Any, tmp_path: Any) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(FEATURE_SET, _options(kind=kind))
    batch = _batch(200)
    label = (batch["wind"] + (batch["carrier"] == 2) > 0.3).astype(np.float32)
    first = model.evaluate(batch, label, verbose=0)[0]
    model.fit(batch, label, epochs=10, batch_size=50, verbose=0)
    assert model.evaluate(batch, label, verbose=0)[0] < 0.8 * first
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(model.predict_on_batch(batch), again.predict_on_batch(batch), atol=1e-6)


def test_embeddings_and_wide_rows_are_named_by_feature() -> None:
    names = {layer.name for layer in build_model(FEATURE_SET, _options()).layers}
    assert {"embedding_carrier", "embedding_tags", "wide_carrier", "wide_tags", "probability"} <= names


def test_equal_seeds_give_equal_weights() -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        models.append(build_model(FEATURE_SET, _options()))
    for one, two in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize(("task", "output", "units"), [("multiclass", "probabilities", 3), ("regression", "value", 1)])
def test_head_follows_the_task(task: str, output: str, units: int) -> None:
    label = {"name": "y", "task": task, "classes": ["a", "b", "c"]}
    feature_set = FeatureSet.model_validate({**FEATURE_SET.model_dump(), "label": label})
    model = build_model(feature_set, _options())
    assert model.layers[-1].name == output
    assert model.output_shape == (None, units)


def test_user_function_gives_the_tensor_before_the_head() -> None:
    model = build_model(FEATURE_SET, _options(kind="custom", function=f"{__name__}:double_wind"))
    assert {"mine", "head"} <= {layer.name for layer in model.layers}


def test_user_function_that_raises_is_named() -> None:
    with pytest.raises(UserCodeError, match=r"broken_function' raised KeyError: 'wing'"):
        build_model(FEATURE_SET, _options(kind="custom", function=f"{__name__}:broken_function"))


def test_user_function_that_returns_no_tensor_is_named() -> None:
    with pytest.raises(UserCodeError, match=r"useless_function' returned no usable tensor.*received 3"):
        build_model(FEATURE_SET, _options(kind="custom", function=f"{__name__}:useless_function"))


def test_custom_kind_without_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="Model kind 'custom' has no function"):
        build_model(FEATURE_SET, _options(kind="custom"))


def test_padding_does_not_count_in_the_mean() -> None:
    layer = MaskedMeanEmbedding(4, 2)
    ids = np.array([[0, 1, -1], [2, -1, -1], [-1, -1, -1]])
    received = np.asarray(layer(ids))
    rows = np.asarray(layer.embeddings)
    np.testing.assert_allclose(received, [(rows[0] + rows[1]) / 2, rows[2], np.zeros(2)], atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "custom"])
def test_numbers_pass_the_affine_stage_before_all_else(kind: Any) -> None:
    function = f"{__name__}:double_wind" if kind == "custom" else None
    model = build_model(FEATURE_SET, _options(kind=kind, function=function))
    for variable in model.weights:
        if variable.path.endswith("kernel"):
            variable.assign(np.ones(variable.shape))
    batch = _batch(20)
    affine = model.get_layer("numeric_affine")
    np.testing.assert_array_equal(np.asarray(affine.scale), [1.0])
    np.testing.assert_array_equal(np.asarray(affine.offset), [0.0])
    affine.scale.assign([2.0])
    affine.offset.assign([-0.5])
    received = np.asarray(model({**batch, "wind": batch["wind"]}))
    affine.scale.assign([1.0])
    affine.offset.assign([0.0])
    np.testing.assert_allclose(received, np.asarray(model({**batch, "wind": 2 * batch["wind"] - 0.5})), atol=1e-6)
    assert np.max(np.abs(received - np.asarray(model(batch)))) > 0.01


def test_affine_stage_keeps_the_order_of_its_inputs() -> None:
    layer = NumericAffine()
    first, last = np.array([[1.0], [2.0]], np.float32), np.array([[3.0], [4.0]], np.float32)
    layer([first, last])
    layer.scale.assign([10.0, 100.0])
    layer.offset.assign([1.0, 2.0])
    received = [np.asarray(tensor).tolist() for tensor in layer([first, last])]
    assert received == [[[11.0], [21.0]], [[302.0], [402.0]]]


def test_no_affine_stage_without_numbers() -> None:
    feature_set = FeatureSet.model_validate(
        {"features": {"carrier": {"kind": "vocabulary"}}, "label": {"name": "late"}}
    )
    assert "numeric_affine" not in {layer.name for layer in build_model(feature_set, _options()).layers}


def test_cross_layer_is_the_published_formula() -> None:
    random = np.random.default_rng(1)
    first, last = random.normal(size=(2, 5, 3)).astype(np.float32)
    layer = Cross()
    received = np.asarray(layer([first, last]))
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    np.testing.assert_allclose(received, first * (last @ kernel + bias) + last, rtol=1e-5)


def test_documented_model_follows_the_convention(tmp_path, monkeypatch):
    (block,) = re.findall(r"```py\n(.*?)```", Path("docs/your-own-data.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "documented_model.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    config = load_config(Path("conf/weather.yaml"))
    own = ModelOptions(kind="custom", function="documented_model:build")
    model = build_model(config.feature_set, config.training.model_copy(update={"model": own}))
    spec = config.features["origin"]
    rows = spec.capacity + spec.num_oov_buckets
    assert model.get_layer("embedding_origin").embeddings.shape == (rows, spec.embedding_dim)
