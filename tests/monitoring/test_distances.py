"""TFDV's distances against the formulas, computed by numpy."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.distances import JENSEN_SHANNON, L_INFINITY, Distance, measure_distances

StatisticsOf = Callable[..., Any]
letters = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40)


def l_infinity(now: Sequence[Any], then: Sequence[Any]) -> float:
    p, q = Counter(now), Counter(then)
    return max(abs(p[value] / len(now) - q[value] / len(then)) for value in p | q)


def jensen_shannon(now: Sequence[float], then: Sequence[float]) -> float:
    p, q = np.asarray(now), np.asarray(then)
    middle = (p + q) / 2
    return float(sum(np.sum(r[r > 0] * np.log2(r[r > 0] / middle[r > 0])) for r in (p, q)) / 2)


@settings(max_examples=30, deadline=None)
@given(now=letters, then=letters)
def test_categorical_distance_is_the_largest_difference_of_shares(
    statistics_of: StatisticsOf, now: list[str], then: list[str]
) -> None:
    measured = measure_distances(statistics_of({"c": now}), statistics_of({"c": then}), categorical=["c"], numeric=[])
    assert measured["c"].measure == L_INFINITY
    assert measured["c"].value == pytest.approx(l_infinity(now, then), abs=1e-12)


@pytest.mark.parametrize(
    ("now", "then"),
    [((0.5, 0.5), (0.9, 0.1)), ((0.5, 0.5), (0.5, 0.5)), ((0.3, 0.7), (0.7, 0.3))],
    ids=["changed", "same", "swapped"],
)
def test_numeric_distance_is_the_jensen_shannon_divergence(
    statistics_of: StatisticsOf, now: tuple[float, float], then: tuple[float, float]
) -> None:
    columns = [[0.0] * round(1000 * share[0]) + [1.0] * round(1000 * share[1]) for share in (now, then)]
    current, baseline = (statistics_of({"x": column}) for column in columns)
    measured = measure_distances(current, baseline, categorical=[], numeric=["x"])
    assert measured["x"].measure == JENSEN_SHANNON
    # TFDV's histograms come from a sketch that is exact to 1 % of the examples.
    assert measured["x"].value == pytest.approx(jensen_shannon(now, then), abs=0.005)


def test_disjoint_numbers_are_at_distance_one(statistics_of: StatisticsOf) -> None:
    current, baseline = statistics_of({"x": [1, 2, 3]}), statistics_of({"x": [7, 8, 9]})
    assert measure_distances(current, baseline, categorical=[], numeric=["x"]) == {"x": Distance(JENSEN_SHANNON, 1.0)}


def test_a_feature_without_values_on_one_side_has_no_distance(statistics_of: StatisticsOf) -> None:
    current, baseline = statistics_of({"x": [1.0, 2.0]}), statistics_of({"x": [None, None]})
    assert measure_distances(current, baseline, categorical=[], numeric=["x"]) == {}
