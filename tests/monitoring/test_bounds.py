"""The decision alone: which bound a value exceeds, and the sentence that follows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.bounds import bounded_finding, judge, plain_finding, worst
from schemas.drift import Bounds
from schemas.verdicts import Verdict

ALL = Bounds(warn=0.1, cold_start=0.3, block=0.6)

limits = st.none() | st.floats(min_value=0, max_value=2)
any_bounds = st.builds(Bounds, warn=limits, cold_start=limits, block=limits)
values = st.floats(min_value=0, max_value=3)


@pytest.mark.parametrize(
    ("value", "verdict", "bound"),
    [
        (0.0, Verdict.PASS, 0.1),
        (0.1, Verdict.PASS, 0.1),
        (0.2, Verdict.WARN, 0.1),
        (0.4, Verdict.COLD_START, 0.3),
        (math.inf, Verdict.BLOCK, 0.6),
    ],
    ids=["zero", "on-the-bound", "warn", "cold-start", "infinite"],
)
def test_the_worst_exceeded_bound_decides(value: float, verdict: Verdict, bound: float) -> None:
    assert judge(value, ALL) == (verdict, bound)


def test_no_bound_is_never_crossed() -> None:
    assert judge(1e9, Bounds()) == (Verdict.PASS, None)


def test_nan_does_not_pass_unseen() -> None:
    with pytest.raises(ValueError, match="NaN can't be judged"):
        judge(math.nan, ALL)


@given(first=values, second=values, bounds=any_bounds)
def test_a_larger_value_is_never_judged_better(first: float, second: float, bounds: Bounds) -> None:
    low, high = sorted((first, second))
    assert judge(low, bounds)[0] <= judge(high, bounds)[0]


@given(value=values, bounds=any_bounds, factor=st.floats(min_value=0, max_value=1))
def test_tighter_bounds_never_judge_better(value: float, bounds: Bounds, factor: float) -> None:
    tighter = Bounds(**{name: None if bound is None else bound * factor for name, bound in bounds})
    assert judge(value, bounds)[0] <= judge(value, tighter)[0]


@pytest.mark.parametrize(
    ("value", "bounds", "sentence"),
    [
        (0.4, ALL, "The rate is 0.4, above the cold start bound of 0.3."),
        (0.05, ALL, "The rate is 0.05, within the lowest bound of 0.1."),
        (0.4, Bounds(), "The rate is 0.4, no bound is set."),
    ],
    ids=["above", "within", "unbounded"],
)
def test_the_sentence_names_value_and_bound(value: float, bounds: Bounds, sentence: str) -> None:
    finding = bounded_finding(f"The rate is {value:g}", value, bounds=bounds, measure="rate", against="previous")
    assert finding.sentence == sentence
    assert finding.value == value


def test_the_worst_finding_decides_the_report() -> None:
    findings = [
        plain_finding("a", verdict, measure="m", against="config") for verdict in (Verdict.WARN, Verdict.COLD_START)
    ]
    assert worst(findings) == "cold_start"
    assert worst([]) == "pass"
