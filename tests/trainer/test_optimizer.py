"""The learning rate falls with the step count alone, and never below its floor."""

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.training import TrainingOptions
from trainer.optimizer import FlooredExponentialDecay, build_optimizer


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (100, 0.05), (200, 0.025), (10_000, 0.01)], ids=["start", "one", "two", "floor"]
)
def test_rate_halves_until_the_floor(step: int, rate: float) -> None:
    schedule = FlooredExponentialDecay(0.1, decay_steps=100, decay_rate=0.5, floor=0.1)
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)


@given(step=st.integers(0, 10**7), rate=st.floats(0.01, 1.0), floor=st.floats(0.01, 1.0))
def test_rate_stays_between_floor_and_initial_rate(step: int, rate: float, floor: float) -> None:
    schedule = FlooredExponentialDecay(1.0, decay_steps=100, decay_rate=rate, floor=floor)
    assert floor * (1 - 1e-5) <= float(schedule(step)) <= 1.0 + 1e-5
    assert float(schedule(step + 100)) <= float(schedule(step)) + 1e-6


def test_optimizer_survives_serialization() -> None:
    optimizer = build_optimizer(TrainingOptions(learning_rate=0.02, clipnorm=0.5))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.clipnorm == 0.5
    assert float(again.learning_rate) == pytest.approx(0.02)
