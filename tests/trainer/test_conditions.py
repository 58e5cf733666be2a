"""Frozen layers stay bit by bit, wrong names are refused with a hint, and no condition outlives its run."""

from collections.abc import Callable

import numpy as np
import pytest

from core.errors import ConfigError
from schemas.training import Regularisation, TrainingOptions
from trainer.batches import Batches
from trainer.conditions import conditions, layers_to_freeze
from trainer.learner import Learner
from trainer.model_state import ModelState, state_of
from trainer.starts import Start

SmallLearner = Callable[..., tuple[Learner, Batches]]
DEEP = {"kind": "dnn", "hidden_units": (3,), "extension_units": (2,)}


def _warm(state: ModelState, line_length: int = 1) -> Start:
    return Start("warm", state, state, line_length)


def test_frozen_layers_stay_and_the_rest_learns(small_learner: SmallLearner) -> None:
    learner, batches = small_learner(model=DEEP)
    model = learner.model
    before = state_of(model)
    options = TrainingOptions(learning_rate=0.1, freeze=("embedding_*", "hidden_*", "head", "numeric_affine"))
    with conditions(learner, _warm(before), options, num_steps=4):
        learner.train(batches)
    after = state_of(model)
    frozen = {path for path, array in after.weights.items() if np.array_equal(array, before.weights[path])}
    layers = {path.partition("/")[0] for path in frozen}
    assert layers == {"embedding_c", "hidden_0", "head", "numeric_affine"}
    assert len(model.trainable_variables) == len(model.weights)
    assert after.slots.keys() == before.slots.keys()


def test_cold_start_freezes_and_holds_nothing(small_learner: SmallLearner) -> None:
    learner, _ = small_learner(model=DEEP)
    model = learner.model
    options = TrainingOptions(freeze=("head",), regularisation=Regularisation(l2_sp=1.0))
    with conditions(learner, Start("cold", state_of(model), None, 0), options, num_steps=1):
        assert model.anchor is None
        assert len(model.trainable_variables) == len(model.weights)


def test_wrong_name_does_not_wait_for_a_warm_run(small_learner: SmallLearner) -> None:
    learner, _ = small_learner()
    model = learner.model
    cold = Start("cold", state_of(model), None, 0)
    with (
        pytest.raises(ConfigError, match=r"'hidden_0' of training\.freeze matches no layer"),
        conditions(learner, cold, TrainingOptions(freeze=("hidden_0",)), num_steps=1),
    ):
        pass


def test_run_begins_where_its_start_says_with_the_base_as_anchor(small_learner: SmallLearner) -> None:
    learner, _ = small_learner()
    model = learner.model
    base = state_of(model)
    state = ModelState({path: array + 1 for path, array in base.weights.items()}, base.slots)
    num_weights = sum(array.size for array in base.weights.values())
    options = TrainingOptions(warm_learning_rate=0.02, regularisation=Regularisation(l2_sp=2.0))
    with conditions(learner, Start("shrink_perturb", state, base, 1), options, num_steps=1):
        np.testing.assert_array_equal(np.asarray(model.weights[0]), state.weights[model.weights[0].path])
        assert float(model.optimizer.learning_rate) == pytest.approx(0.02)
        assert model.anchor is not None
        penalties = model.anchor.penalties(model)
    assert {name: float(value) for name, value in penalties.items()} == pytest.approx({"l2_sp": num_weights})
    assert model.anchor is None


def test_conditions_end_with_a_failed_run(small_learner: SmallLearner) -> None:
    learner, _ = small_learner(model=DEEP)
    model = learner.model
    options = TrainingOptions(freeze=("head",), regularisation=Regularisation(l2_sp=2.0))
    with pytest.raises(KeyError), conditions(learner, _warm(state_of(model)), options, num_steps=1):
        raise KeyError
    assert model.anchor is None
    assert model.get_layer("head").trainable


def test_pattern_of_no_layer_is_refused_with_a_hint(small_learner: SmallLearner) -> None:
    learner, _ = small_learner(model=DEEP)
    model = learner.model
    with pytest.raises(ConfigError, match=r"'hiden_0' of training.freeze matches no layer.*did you mean 'hidden_0'"):
        layers_to_freeze(model, ["head", "hiden_0"])


def test_freezing_everything_is_refused(small_learner: SmallLearner) -> None:
    learner, _ = small_learner()
    model = learner.model
    with pytest.raises(ConfigError, match=r"Nothing is left to train.*freeze=\['\*'\].*extension_units"):
        layers_to_freeze(model, ["*"])
