"""A model's numbers leave it, survive saving, and come back whole; slots find the weights that they belong to."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from core.errors import TrainingError
from schemas.features import FeatureSet
from schemas.training import ModelOptions, TrainingOptions
from trainer.model import build_model
from trainer.model_state import ModelState, assign_state, layer_of, slot_owner, state_of

FEATURE_SET = FeatureSet.model_validate(
    {
        "features": {"wind": {"kind": "numeric"}, "carrier": {"kind": "vocabulary", "capacity": 4, "embedding_dim": 2}},
        "label": {"name": "late"},
    }
)


def _built() -> keras.Model:
    return build_model(FEATURE_SET, TrainingOptions(model=ModelOptions(hidden_units=(3,))))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model after a few steps, so that no slot is zero everywhere."""
    model = _built()
    random = np.random.default_rng(0)
    batch = {"wind": random.normal(size=(20, 1)).astype(np.float32), "carrier": random.integers(0, 5, (20, 1))}
    for _ in range(3):
        model.train_on_batch(batch, random.integers(0, 2, (20, 1)).astype(np.float32))
    return model


def _assert_equal(one: ModelState, two: ModelState) -> None:
    for before, after in ((one.weights, two.weights), (one.slots, two.slots)):
        assert before.keys() == after.keys()
        for path, array in before.items():
            np.testing.assert_array_equal(array, after[path], err_msg=path)


def test_state_survives_saving_and_comes_back_in_another_model(model: keras.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    state = state_of(keras.saving.load_model(tmp_path / "model.keras", safe_mode=True))
    _assert_equal(state_of(model), state)
    assert int(state.slots["iteration"]) == 3
    other = _built()
    assign_state(other, state)
    _assert_equal(state_of(other), state)


def test_state_does_not_follow_the_model(model: keras.Model) -> None:
    state = state_of(model, {"head/bias": np.ones(1)})
    before = state.weights["head/kernel"].copy()
    other = _built()
    assign_state(other, state)
    other.get_layer("head").kernel.assign(before + 1)
    np.testing.assert_array_equal(state.weights["head/kernel"], before)
    assert state.fisher.keys() == {"head/bias"}


def test_every_slot_but_the_step_count_finds_its_weight(model: keras.Model) -> None:
    state = state_of(model)
    owners = {slot: slot_owner(slot, state.weights) for slot in state.slots}
    assert {kind for owner, kind in owners.values() if not owner} <= {"iteration", "learning_rate"}
    for kind in ("momentum", "velocity"):
        owned = {owner: slot for slot, (owner, found) in owners.items() if found == kind}
        assert owned.keys() == {variable.path for variable in model.trainable_variables}
        assert all(state.slots[slot].shape == state.weights[path].shape for path, slot in owned.items())


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        ("tower_embedding_a_embeddings_momentum", ("tower/embedding_a/embeddings", "momentum")),
        ("dense_1_kernel_velocity", ("dense_1/kernel", "velocity")),
        ("dense_1_kernel_momentum_momentum", ("dense_1/kernel_momentum", "momentum")),
        ("learning_rate", ("", "learning_rate")),
    ],
    ids=["nested", "no mere beginning", "the longest", "no owner"],
)
def test_slots_are_named_after_weights(slot: str, expected: Any) -> None:
    weights = ["dense/kernel", "dense_1/kernel", "dense_1/kernel_momentum", "tower/embedding_a/embeddings"]
    assert slot_owner(slot, weights) == expected


@pytest.mark.parametrize(("path", "layer"), [("a/b/kernel", "b"), ("b/kernel", "b"), ("kernel", "")])
def test_layer_of_a_variable_is_the_innermost(path: str, layer: str) -> None:
    assert layer_of(path) == layer


def test_incomplete_state_is_refused(model: keras.Model) -> None:
    state = state_of(model)
    weights = {path: array for path, array in state.weights.items() if path != "head/bias"}
    with pytest.raises(TrainingError, match=r"1 weights differ.*'head/bias': \(None, \[1\]\).*Plan a cold start"):
        assign_state(model, ModelState(weights, state.slots))


def test_state_of_another_shape_is_refused_before_anything_is_assigned(model: keras.Model) -> None:
    state = state_of(model)
    wrong = {**{path: array + 1 for path, array in state.weights.items()}, "head/bias": np.zeros(2)}
    with pytest.raises(TrainingError, match=r"'head/bias': \(\[2\], \[1\]\)"):
        assign_state(model, ModelState(wrong, state.slots))
    _assert_equal(state_of(model), state)
