"""Splits: stable, near the fraction, and monotonic in it."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.splits import split_of

FRACTIONS = st.floats(0.01, 0.99)


@given(st.text(), FRACTIONS, FRACTIONS)
def test_a_larger_fraction_takes_no_key_out_of_eval(key: str, one: float, other: float) -> None:
    if split_of(key, min(one, other)) == "eval":
        assert split_of(key, max(one, other)) == "eval"


def test_splits_of_known_keys_never_change() -> None:
    # Pinned: if this changes, every span on every disk would be written again.
    assert "".join(split_of(f"key-{number}", 0.2)[0] for number in range(20)) == "tttetetettettettetet"


def test_share_of_eval_is_near_the_fraction() -> None:
    num_eval = sum(split_of(f"key-{number}", 0.2) == "eval" for number in range(10_000))
    # Within five standard deviations of a binomial: sqrt(10,000 * 0.2 * 0.8) = 40.
    assert abs(num_eval - 2000) < 200
