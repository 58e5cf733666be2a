"""Which starts there are, and what shrinking and perturbing does and leaves alone."""

from typing import Any

import numpy as np
import pytest

from schemas.training import ShrinkPerturb
from trainer.model_state import ModelState
from trainer.starts import possible_starts, shrunk_and_perturbed

BASE = ModelState(
    {"hidden/kernel": np.array([2.0, -4.0]), "norm/moving_mean": np.array([3.0])},
    {"adam/iterations": np.array(7), "adam/hidden_kernel_momentum": np.array([0.5, 0.5])},
    {"hidden/kernel": np.array([1.0, 1.0])},
)
FRESH = ModelState(
    {"hidden/kernel": np.array([1.0, 1.0]), "norm/moving_mean": np.array([0.0])},
    {"adam/iterations": np.array(0), "adam/hidden_kernel_momentum": np.array([0.0, 0.0])},
)


def test_trainable_weights_are_mixed_and_all_else_is_the_base_s() -> None:
    state = shrunk_and_perturbed(BASE, FRESH, ["hidden/kernel"], ShrinkPerturb(shrink=0.5, perturb=0.1))
    np.testing.assert_allclose(state.weights["hidden/kernel"], [1.1, -1.9])
    np.testing.assert_array_equal(state.weights["norm/moving_mean"], [3.0])
    assert state.slots is BASE.slots
    assert state.fisher is BASE.fisher


@pytest.mark.parametrize(
    ("asked", "has_base", "names"),
    [
        ("cold", False, ["cold"]),
        ("warm", True, ["warm"]),
        ("shrink_perturb", True, ["shrink_perturb"]),
        ("auto", True, ["warm", "shrink_perturb", "cold"]),
    ],
)
def test_starts_are_those_asked_for(asked: Any, has_base: bool, names: list[str]) -> None:
    starts = possible_starts(
        asked,
        fresh=FRESH,
        moved=BASE if has_base else None,
        trainable=["hidden/kernel"],
        options=ShrinkPerturb(),
        line_length=4,
    )
    assert [start.name for start in starts] == names
    for start in starts:
        is_cold = start.name == "cold"
        assert (start.line_length, start.base) == ((0, None) if is_cold else (4, BASE))
        assert int(start.state.slots["adam/iterations"]) == (0 if is_cold else 7)
