"""The champion's test-then-train scores over all spans: sliding mean, fading average, and whether they have decayed.

In here: a series of scores, summed up. Not in here: where the scores come from, and what follows from decay.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, takewhile
from statistics import fmean

from schemas.gate import HIGHER_IS_BETTER
from schemas.scores import PrequentialOptions, PrequentialScore, PrequentialSummary


def summarise(history: Sequence[PrequentialScore], options: PrequentialOptions, metric: str) -> PrequentialSummary:
    """Return where the series stands after its newest span.

    Spans on which the metric is undefined are left out of both means and of the decay test. The test asks whether the
    newest values were, each, worse than the best sliding mean before it. Only full windows count for the best one: the
    best of single values would be a lucky one.

    Args:
        history: Scores in any order; of two for one span, as after a correction, the later in the sequence counts.
        options: How to sum up, and when to call it decay.
        metric: The headline metric by TFMA's name.

    Example:
        >>> scores = [PrequentialScore(span=span, num_examples=9, metrics={"auc": 0.75}) for span in (6, 7)]
        >>> summary = summarise(scores, PrequentialOptions(window_spans=1), "auc")
        >>> summary.sliding, summary.has_decayed
        (0.75, False)
    """
    by_span = {score.span: score.metrics.get(metric) for score in history}
    values = [value for _, value in sorted(by_span.items()) if value is not None]
    sliding, faded = sliding_means(values, options.window_spans), fading_averages(values, options.fading_factor)
    declines = relative_declines(values, options.window_spans, is_higher_better=metric in HIGHER_IS_BETTER)
    num_declined = sum(1 for _ in takewhile(lambda decline: decline > options.max_decay, reversed(declines)))
    sentences = [_latest(by_span, metric)]
    if values:
        window = _spans(min(options.window_spans, len(values)))
        sentences.append(f"Mean of the last {window}: {sliding[-1]:.4f}; fading average: {faded[-1]:.4f}.")
    if len(values) < len(by_span):
        sentences.append(f"Without a value and left out: {_spans(len(by_span) - len(values))} of {len(by_span)}.")
    return PrequentialSummary(
        metric=metric,
        latest=by_span[max(by_span)] if by_span else None,
        sliding=sliding[-1] if values else None,
        faded=faded[-1] if values else None,
        has_decayed=num_declined >= options.num_spans,
        sentence=" ".join([*sentences, _decay(declines, num_declined, options)]),
    )


def sliding_means(values: Sequence[float], window_spans: int) -> list[float]:
    """Return, for each value, the mean of the window that ends with it; the first windows are shorter.

    Example:
        >>> sliding_means([1.0, 2.0, 4.0], 2)
        [1.0, 1.5, 3.0]
    """
    return [fmean(values[max(0, end - window_spans) : end]) for end in range(1, len(values) + 1)]


def fading_averages(values: Sequence[float], fading_factor: float) -> list[float]:
    """Return, for each value, the average of all up to it, each weighing `fading_factor` times the one after it.

    Source:
        Gama, Sebastião and Rodrigues, On evaluating stream learning algorithms, Machine Learning 2013, section 4.2:
        `S_i = x_i + alpha * S_(i-1)`, `N_i = 1 + alpha * N_(i-1)`, average `S_i / N_i`.

    Example:
        >>> fading_averages([1.0, 4.0], 0.5)
        [1.0, 3.0]
    """
    sums = accumulate(values, lambda total, value: value + fading_factor * total)
    weights = accumulate([1.0] * len(values), lambda total, one: one + fading_factor * total)
    return [total / weight for total, weight in zip(sums, weights, strict=True)]


def relative_declines(values: Sequence[float], window_spans: int, *, is_higher_better: bool) -> list[float]:
    """Return how much worse each value is than the best full window before it, as a share of that window's mean.

    Returns:
        One number for each value from the first that has a full window before it; negative where it is better.

    Example:
        >>> relative_declines([0.5, 1.0, 0.75, 0.5], 1, is_higher_better=True)
        [-1.0, 0.25, 0.5]
    """
    full_windows = sliding_means(values, window_spans)[window_spans - 1 : -1]
    best = accumulate(full_windows, max if is_higher_better else min)
    sign = 1 if is_higher_better else -1
    tested = values[window_spans:]
    return [_share(sign * (mean - value), mean) for mean, value in zip(best, tested, strict=True)]


def _share(decline: float, mean: float) -> float:
    if mean == 0:  # an error of 0 that grew has grown beyond all shares
        return math.copysign(math.inf, decline) if decline else 0.0
    return decline / abs(mean)


def _latest(by_span: Mapping[int, float | None], metric: str) -> str:
    if not by_span:
        return f"No span has a prequential {metric} yet."
    newest = max(by_span)
    value = by_span[newest]
    words = "undefined" if value is None else f"{value:.4f}"
    return f"Before training on span {newest} the champion's {metric} on it was {words}."


def _decay(declines: Sequence[float], num_declined: int, options: PrequentialOptions) -> str:
    limit = f"{options.max_decay:.1%} worse"
    if not declines:
        return f"Decay is tested from {_spans(options.window_spans + 1)} with a value on."
    last = f"{declines[-1]:.1%} worse" if declines[-1] > 0 else "no worse"
    now = f"the last value is {last} than the best mean before it"
    if num_declined >= options.num_spans:
        return f"It has decayed: {now}, and more than {limit} in {_spans(num_declined)} in a row."
    return f"No decay: {now}; decay is more than {limit} in {_spans(options.num_spans)} in a row."


def _spans(number: int) -> str:
    return f"{number} span{'' if number == 1 else 's'}"
