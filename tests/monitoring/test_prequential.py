"""The summary of a series: its averages, its sentences, and a decay test that is quiet without and quick with drift."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.prequential import fading_averages, relative_declines, sliding_means, summarise
from schemas.scores import PrequentialOptions, PrequentialScore

OPTIONS = PrequentialOptions(window_spans=3, fading_factor=0.5, max_decay=0.1, num_spans=2)
NUM_SPANS, DRIFT_AT = 200, 100
METRICS = st.lists(st.none() | st.floats(0.01, 1), max_size=12)


def series(values, metric="auc"):
    return [
        PrequentialScore(span=span, num_examples=100, metrics={} if value is None else {metric: float(value)})
        for span, value in enumerate(values)
    ]


def alarms(values, options=None):
    """Return the spans after which the test says decay, when it is asked after every one."""
    history = series(values)
    ends = range(1, len(history) + 1)
    return [end - 1 for end in ends if summarise(history[:end], options or PrequentialOptions(), "auc").has_decayed]


def noisy(seed, *, sd):
    return np.random.default_rng(seed).normal(0.75, sd, NUM_SPANS)


def test_fading_average_is_its_closed_form():
    values = np.random.default_rng(1).uniform(size=50)
    weights = 0.8 ** np.arange(50)[::-1]
    assert fading_averages(values.tolist(), 0.8)[-1] == pytest.approx(np.average(values, weights=weights))


def test_fading_factor_of_one_is_the_mean_of_all():
    values = [0.3, 0.9, 0.1, 0.4]
    np.testing.assert_allclose(fading_averages(values, 1.0), np.cumsum(values) / np.arange(1, 5))


def test_sliding_mean_forgets_what_has_left_the_window():
    assert sliding_means([9.0, 9.0, 1.0, 2.0, 3.0], 3)[-1] == 2
    assert sliding_means([], 3) == []


@pytest.mark.parametrize(
    ("values", "is_higher_better", "declines"),
    [
        ([0.8, 0.8, 0.8], True, []),
        ([0.8, 0.8, 0.8, 0.6], True, [0.25]),
        ([0.8, 0.8, 0.8, 0.6], False, [-0.25]),
        ([0.4, 0.4, 0.4, 0.5, 0.2], False, [0.25, -0.5]),
        ([-2.0, -2.0, -2.0, -3.0], True, [0.5]),
        ([0.0, 0.0, 0.0, 0.5, 0.0], False, [math.inf, 0.0]),
    ],
    ids=["no-window-before", "fell", "error-fell", "error-rose", "negative", "from-zero"],
)
def test_decline_is_relative_to_the_best_full_window_before(values, is_higher_better, declines):
    assert relative_declines(values, 3, is_higher_better=is_higher_better) == pytest.approx(declines)


@pytest.mark.parametrize(
    ("values", "has_decayed"),
    [
        ([0.8, 0.8, 0.8, 0.6], False),
        ([0.8, 0.8, 0.8, 0.6, 0.6], True),
        ([0.8, 0.8, 0.8, 0.6, None, 0.6], True),
        ([0.8, 0.8, 0.8, 0.6, 0.6, 0.8], False),
        ([0.8, 0.8, 0.8, 0.73, 0.73, 0.73], False),
        ([0.99, 0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.5], False),
    ],
    ids=["one", "two-in-a-row", "undefined-between", "recovered", "within-bound", "window-with-luck", "too-short"],
)
def test_decay_is_a_number_of_bad_spans_in_a_row(values, has_decayed):
    assert summarise(series(values), OPTIONS, "auc").has_decayed is has_decayed


def test_metric_that_is_better_low_decays_upwards():
    rising = series([0.4, 0.4, 0.4, 0.5, 0.5], "binary_crossentropy")
    falling = series([0.4, 0.4, 0.4, 0.3, 0.3], "binary_crossentropy")
    assert summarise(rising, OPTIONS, "binary_crossentropy").has_decayed
    assert not summarise(falling, OPTIONS, "binary_crossentropy").has_decayed


def test_steady_stream_raises_no_alarm():
    assert [alarms(noisy(seed, sd=0.01)) for seed in range(3)] == [[], [], []]


def test_noise_of_half_the_bound_raises_this_many_false_alarms():
    assert [len(alarms(noisy(seed, sd=0.02))) for seed in range(3)] == [21, 3, 9]


def test_abrupt_drift_is_found_at_the_second_span():
    drift = np.where(np.arange(NUM_SPANS) >= DRIFT_AT, -0.08, 0)
    found = [alarms(noisy(seed, sd=0.01) + drift) for seed in range(3)]
    assert [spans[0] for spans in found] == [DRIFT_AT + 1] * 3


def test_gradual_drift_is_found_on_its_way():
    drift = -0.08 * np.clip((np.arange(NUM_SPANS) - DRIFT_AT) / 50, 0, 1)
    found = [alarms(noisy(seed, sd=0.01) + drift) for seed in range(3)]
    assert [spans[0] for spans in found] == [121, 122, 120]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "No span has a prequential auc yet. Decay is tested from 4 spans with a value on."),
        (
            [0.8, 0.7],
            "Before training on span 1 the champion's auc on it was 0.7000. Mean of the last 2 spans: 0.7500; fading "
            "average: 0.7333. Decay is tested from 4 spans with a value on.",
        ),
        (
            [0.75, 0.75, 0.75, 0.75, None],
            "Before training on span 4 the champion's auc on it was undefined. Mean of the last 3 spans: 0.7500; "
            "fading average: 0.7500. Without a value and left out: 1 span of 5. No decay: the last value is no worse "
            "than the best mean before it; decay is more than 10.0% worse in 2 spans in a row.",
        ),
        (
            [0.8, 0.8, 0.8, 0.6, 0.6],
            "Before training on span 4 the champion's auc on it was 0.6000. Mean of the last 3 spans: 0.6667; fading "
            "average: 0.6452. It has decayed: the last value is 25.0% worse than the best mean before it, and more "
            "than 10.0% worse in 2 spans in a row.",
        ),
    ],
    ids=["empty", "early", "undefined", "decayed"],
)
def test_sentence_says_it_in_words_and_numbers(values, sentence):
    assert summarise(series(values), OPTIONS, "auc").sentence == sentence


def test_series_without_any_value_has_no_numbers():
    summary = summarise(series([None, None]), OPTIONS, "auc")
    assert (summary.latest, summary.sliding, summary.faded, summary.has_decayed) == (None, None, None, False)
    assert "Without a value and left out: 2 spans of 2." in summary.sentence


def test_correction_of_a_span_counts_in_its_place():
    history = [*series([0.8, 0.1, 0.8]), PrequentialScore(span=1, num_examples=9, metrics={"auc": 0.8})]
    summary = summarise(history, OPTIONS, "auc")
    assert (summary.latest, summary.sliding) == (0.8, pytest.approx(0.8))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(values=METRICS, data=st.data())
def test_order_of_the_history_is_irrelevant(values, data):
    history = series(values)
    shuffled = data.draw(st.permutations(history))
    assert summarise(shuffled, OPTIONS, "auc") == summarise(history, OPTIONS, "auc")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(values=st.lists(st.floats(0.01, 1), max_size=12), later=st.lists(st.floats(0.01, 1), max_size=5))
def test_what_comes_later_changes_nothing_before(values, later):
    longer = [*values, *later]
    assert sliding_means(longer, 3)[: len(values)] == sliding_means(values, 3)
    assert fading_averages(longer, 0.8)[: len(values)] == fading_averages(values, 0.8)
    declines = relative_declines(values, 3, is_higher_better=True)
    assert relative_declines(longer, 3, is_higher_better=True)[: len(declines)] == declines
