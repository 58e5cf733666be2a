"""An extension is there for every kind of model, and changes nothing at first."""

from typing import Any

import keras
import numpy as np
import pytest

from schemas.features import FeatureSet
from schemas.training import ModelOptions, TrainingOptions
from trainer.model import build_model, extension_layers
from trainer.model_state import ModelState, assign_state, state_of

FEATURES = FeatureSet.model_validate(
    {
        "features": {"a": {"kind": "numeric"}, "c": {"kind": "vocabulary", "capacity": 4, "embedding_dim": 2}},
        "label": {"name": "late"},
    }
)
INPUTS = {"a": np.linspace(-2, 2, 8, dtype="float32")[:, np.newaxis], "c": np.arange(-1, 7)[:, np.newaxis] % 6 - 1}


def named_by_our_convention(inputs: dict[str, Any], feature_set: FeatureSet, options: ModelOptions) -> Any:
    """A user's model, whose layers have the names that ours would have."""
    rows = keras.layers.Embedding(5, 2, name="embedding_c")(keras.ops.maximum(inputs["c"], 0))
    joined = keras.layers.Concatenate(name="deep_inputs")([keras.layers.Flatten()(rows), inputs["a"]])
    return keras.layers.Dense(3, name="hidden_0")(joined)


def _options(kind: str, *extension_units: int) -> TrainingOptions:
    function = f"{__name__}:named_by_our_convention" if kind == "custom" else None
    model = {"kind": kind, "hidden_units": (4,), "function": function, "extension_units": extension_units}
    return TrainingOptions.model_validate({"model": model})


@pytest.mark.parametrize("kind", ["linear", "dnn", "wide_deep", "dcn_v2", "custom"])
def test_extension_changes_nothing_at_first(kind: str) -> None:
    keras.utils.set_random_seed(0)
    plain, options = build_model(FEATURES, _options(kind)), _options(kind, 8, 8)
    extended = build_model(FEATURES, options)
    fresh, old = state_of(extended), state_of(plain)
    assign_state(extended, ModelState({**fresh.weights, **old.weights}, fresh.slots))
    np.testing.assert_array_equal(extended(INPUTS), plain(INPUTS))
    new = {path.partition("/")[0] for path in fresh.weights.keys() - old.weights.keys()}
    assert new == {*extension_layers(options.model), "extension_embedding_c"}
    assert extension_layers(options.model) == ["extension_0", "extension_1", "extension_head"]
    extended.get_layer("extension_head").kernel.assign(np.ones((8, 1)))
    assert not np.array_equal(extended(INPUTS), plain(INPUTS))
