"""The noise of a difference between two models that were scored on the same examples: a paired bootstrap in numpy.

In here: the interval of a difference, and what may be concluded from it. Not in here: what is asked of a candidate.
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from monitoring.metrics import example_metrics
from schemas.gate import HIGHER_IS_BETTER, BootstrapOptions, Difference

Floats = npt.NDArray[np.float64]
# How often each example was drawn; below 2**31 / 2 examples, all sums of them fit too.
Counts = npt.NDArray[np.int32]
# The metric's value in every resample, shape (num_replicates,), of counts of shape (num_replicates, num_examples).
_WeightedMetric = Callable[[Counts], Floats]

# Counts held at once: 1 MiB, and a few arrays of that shape besides. More than a processor's cache holds is slower.
MAX_WEIGHTS = 1 << 18
# With fewer defined resamples nothing is concluded. A class of 5 examples is missing from exp(-5) = 0.7 % of them.
MIN_DEFINED_SHARE = 0.99
_POWER = 0.8  # of the minimum detectable effect, as `schemas.gate.Difference` defines it


def paired_difference(
    task: str,
    metric: str,
    labels: npt.ArrayLike,
    *,
    candidate: npt.ArrayLike,
    champion: npt.ArrayLike,
    options: BootstrapOptions,
) -> Difference | None:
    """Return candidate minus champion with its percentile interval, or None where too little is known to say.

    Both models are weighted by the same resamples, so what makes an example hard for both cancels out. None is
    returned with fewer examples than `options.min_examples`, where a score is not finite, and where the metric is
    undefined in too many resamples, as the AUC is without both classes. The interval belongs to an order of the
    examples: another order draws other resamples from the same seed.

    Args:
        task: `binary`, `multiclass` or `regression`.
        metric: `auc`, or one of `monitoring.metrics.example_metrics`.
        labels: Shape `(num_examples,)`.
        candidate: Its scores, shape `(num_examples,)`, `(num_examples, 1)`, or `(num_examples, num_classes)`.
        champion: The other model's scores, in the candidate's shape.
        options: How many resamples, and the interval's confidence.

    Raises:
        ValueError: shapes do not fit, or the metric is no such metric.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.3 (paired data) and 13.3 (percentile
        interval).
    """
    scores = [np.asarray(model, np.float64) for model in (candidate, champion)]
    label_array = np.asarray(labels)
    if len(label_array) < options.min_examples or not all(np.isfinite(model).all() for model in scores):
        return None
    difference = _difference(task, metric, label_array, *scores)
    batches = resamples(len(label_array), options.num_replicates, seed=options.seed)
    replicates = np.concatenate([difference(counts) for counts in batches])
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < MIN_DEFINED_SHARE * options.num_replicates:
        return None
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    z = NormalDist().inv_cdf(1 - tail) + NormalDist().inv_cdf(_POWER)
    return Difference(
        value=float(difference(np.ones((1, len(label_array)), np.int32))[0]),
        low=float(low),
        high=float(high),
        min_detectable_effect=z * float(np.std(defined, ddof=1)),
        num_examples=len(label_array),
    )


def is_superior(difference: Difference, metric: str) -> bool:
    """Return whether the whole interval says that the candidate is better."""
    return is_non_inferior(difference, metric, margin=0.0)


def is_non_inferior(difference: Difference, metric: str, *, margin: float) -> bool:
    """Return whether the whole interval says that the candidate is worse by less than `margin`, in the metric's unit.

    Example:
        >>> loss = Difference(value=0.01, low=-0.01, high=0.03, min_detectable_effect=0.03, num_examples=1000)
        >>> is_non_inferior(loss, "binary_crossentropy", margin=0.05)
        True
    """
    worst = difference.low if metric in HIGHER_IS_BETTER else -difference.high
    return worst > -margin


def resamples(num_examples: int, num_replicates: int, *, seed: int, max_weights: int = MAX_WEIGHTS) -> Iterator[Counts]:
    """Yield how often each example was drawn in each resample, a bounded number of counts at a time.

    Args:
        num_examples: Size of the sample, and of every resample.
        num_replicates: Resamples in all.
        seed: Of the draws; they do not depend on how many are yielded at once.
        max_weights: Most counts in one array, if one replicate has no more.

    Yields:
        Arrays of shape `(some_replicates, num_examples)`; each row sums to `num_examples`.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, max_weights // num_examples)
    for start in range(0, num_replicates, at_once):
        rows = min(at_once, num_replicates - start)
        drawn = generator.integers(0, num_examples, (rows, num_examples))
        counts = np.empty((rows, num_examples), np.int32)
        for row in range(rows):
            counts[row] = np.bincount(drawn[row], minlength=num_examples)
        yield counts


def weighted_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> _WeightedMetric:
    """Return a function from counts to the area under the ROC curve, NaN where a class was never drawn.

    The area is the share of pairs, a positive and a negative example, that the score puts in the right order; a tie is
    half a pair. Scores are sorted here, once; a resample then costs one cumulative sum. Pairs are counted in integers,
    so the area is exact up to its last division.

    Args:
        labels: Shape `(num_examples,)`, 0 or 1.
        scores: Shape `(num_examples,)`.

    Returns:
        A function from counts of shape `(num_replicates, num_examples)` to areas of shape `(num_replicates,)`.

    Source:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 1982.
    """
    is_positive, score_array = np.asarray(labels) > 0, np.asarray(scores)
    order = np.argsort(score_array, kind="stable")
    positives, negatives = order[is_positive[order]], order[~is_positive[order]]
    below, not_above = (
        np.searchsorted(score_array[negatives], score_array[positives], side) for side in ("left", "right")
    )

    def areas(counts: Counts) -> Floats:
        of_positives = counts.take(positives, axis=1)
        cumulated = np.zeros((len(counts), len(negatives) + 1), np.int32)
        np.cumsum(counts.take(negatives, axis=1), axis=1, out=cumulated[:, 1:])
        twice_below = cumulated.take(below, axis=1)
        twice_below += cumulated.take(not_above, axis=1)
        # Twice the pairs won; in floats, which hold integers up to 2**53.
        won = np.einsum("rp,rp->r", of_positives, twice_below, dtype=np.float64, casting="unsafe")
        with np.errstate(invalid="ignore"):
            area: Floats = won / 2 / (of_positives.sum(axis=1, dtype=np.float64) * cumulated[:, -1])
        return area

    return areas


def _difference(task: str, metric: str, labels: Floats, candidate: Floats, champion: Floats) -> _WeightedMetric:
    if metric == "auc":
        first, second = (weighted_auc(labels, model.reshape(len(labels))) for model in (candidate, champion))
        return lambda counts: first(counts) - second(counts)
    by_model = [example_metrics(task, labels, model) for model in (candidate, champion)]
    if metric not in by_model[0]:
        raise ValueError(
            f"Metric {metric!r} has no paired difference. Expected 'auc' of a binary task or one of "
            f"{sorted(by_model[0])}; received task={task!r}. Leave its policy 'absolute'."
        )
    per_example = by_model[0][metric] - by_model[1][metric]
    return lambda counts: counts @ per_example / len(labels)
