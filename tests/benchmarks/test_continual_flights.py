import numpy as np
import pandas as pd
import pytest

from benchmarks.continual.flights import lateness


@pytest.fixture
def flights():
    random = np.random.default_rng(0)
    day = np.repeat(np.arange(20), 5)
    return pd.DataFrame(
        {"day": day, "carrier": random.choice(["AA", "UA"], 100), "late": random.integers(0, 2, 100).astype(float)}
    )


@pytest.mark.parametrize("keys", [(), ("carrier",)], ids=["all", "carrier"])
def test_lateness_sees_no_label_younger_than_48_hours(flights, keys):
    changed = flights.assign(late=flights["late"].where(flights["day"] < 8, 1 - flights["late"]))
    before, after = lateness(flights, keys, 7), lateness(changed, keys, 7)
    # The last minute of day 7 is known at the end of day 9; a flight of day 10 may use it, and day 8 only from 11 on.
    is_told = flights["day"] >= 11
    assert before[~is_told].tolist() == after[~is_told].tolist()
    assert (before[is_told] != after[is_told]).any()


def test_lateness_is_the_late_share_of_the_window_drawn_to_the_prior(flights):
    recent = flights[flights["day"].between(10, 12)]["late"]
    found = lateness(flights, (), 3)[flights["day"] == 15]
    assert found.tolist() == pytest.approx([(recent.sum() + 0.25 * 20) / (len(recent) + 20)] * 5)


def test_lateness_leaves_out_flights_without_a_label(flights):
    assert lateness(flights.assign(late=np.nan), (), 7).tolist() == pytest.approx([0.25] * 100)
