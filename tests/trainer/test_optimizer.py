"""The learning rate is what its policy says, at any step of any run, and never below its floor."""

from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.training import TrainingOptions
from trainer.optimizer import RunSchedule, build_optimizer, cold_schedule, run_rate

OPTIONS: dict[str, Any] = {"learning_rate": 0.1, "decay_rate": 0.5, "decay_steps": 100, "inverse_time_alpha": 0.5}


def _rates(schedule: RunSchedule, *steps: int) -> list[float]:
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize(
    ("policy", "line_length", "expected"),
    [
        ("constant", 0, [0.1, 0.1, 0.1, 0.1, 0.1]),
        ("exponential", 3, [0.1, 0.05, 0.025, 0.025 / 2**0.5, 0.01]),
        ("inverse_time", 0, [0.1, 0.1, 0.1, 0.1, 0.1]),
        ("inverse_time", 2, [0.05, 0.05, 0.05, 0.05, 0.05]),
        # The run takes 100 steps from step 200 on.
        ("warm_restart", 3, [0.1, 0.1, 0.1, 0.055, 0.01]),
    ],
)
def test_rate_follows_its_policy(policy: Any, line_length: int, expected: list[float]) -> None:
    options = TrainingOptions(**OPTIONS, learning_rate_policy=policy)
    schedule = cold_schedule(options)
    schedule.begin(run_rate(options, line_length), first_step=200, num_steps=100)
    assert _rates(schedule, 0, 100, 200, 250, 10_000) == pytest.approx(expected, rel=1e-5)


def test_warm_runs_have_a_rate_of_their_own() -> None:
    options = TrainingOptions(learning_rate=0.1, warm_learning_rate=0.03, learning_rate_policy="constant")
    assert (run_rate(options, 0), run_rate(options, 1)) == (0.1, 0.03)


@given(step=st.integers(0, 10**7), rate=st.floats(0.01, 1.0), floor=st.floats(0.01, 1.0))
def test_rate_stays_between_floor_and_initial_rate(step: int, rate: float, floor: float) -> None:
    schedule = RunSchedule("exponential", decay_steps=100, decay_rate=rate, floor=floor, rate=1.0)
    assert floor * (1 - 1e-5) <= float(schedule(step)) <= 1.0 + 1e-5
    assert float(schedule(step + 100)) <= float(schedule(step)) + 1e-6


def test_another_run_begins_without_another_schedule() -> None:
    schedule = cold_schedule(TrainingOptions(**OPTIONS, learning_rate_policy="warm_restart"))
    schedule.begin(rate=0.1, first_step=0, num_steps=10)
    assert _rates(schedule, 0, 10) == pytest.approx([0.1, 0.01])
    schedule.begin(rate=0.2, first_step=10, num_steps=10)
    assert _rates(schedule, 10, 20) == pytest.approx([0.2, 0.02])


def test_optimizer_survives_serialization() -> None:
    options = TrainingOptions(**OPTIONS, clipnorm=0.5, learning_rate_policy="exponential")
    optimizer = build_optimizer(options, cold_schedule(options))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.clipnorm == 0.5
    assert float(again.learning_rate) == pytest.approx(0.1)
    again.iterations.assign(100)
    assert float(again.learning_rate) == pytest.approx(0.05)
