"""What training on new data did to old knowledge, measured on a fixed sample of older spans that nothing trained on."""

from collections.abc import Iterator

import numpy as np

from monitoring.bootstrap import is_non_inferior
from monitoring.metrics import metrics_of
from monitoring.scored_examples import Array, ScoredExamples
from monitoring.wording import comparison_words, non_inferiority_words, undecided_words, value_words
from schemas.gate import HEADLINE_METRIC, BackwardTransfer, Difference, GateOptions

# A span with fewer examples is not shown. What is shown decides nothing, so it may be noisier than what does.
MIN_SHOWN_EXAMPLES = 50


def measure_backward_transfer(examples: ScoredExamples, spans: Array, *, options: GateOptions) -> BackwardTransfer:
    """Compare candidate and champion on older examples, all together and per span.

    Backward transfer is the candidate's value minus the champion's, as Lopez-Paz and Ranzato define it for two tasks,
    here with an interval. It is held against `max_forgetting` by the rule of policy `non_inferior`; with too few
    examples that decides nothing.

    Args:
        examples: Examples of older spans, at least one.
        spans: Number of each example's span, shape `(num_examples,)`.
        options: Which forgetting is too much.

    Source:
        Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017, section 2.
    """
    metric = HEADLINE_METRIC[examples.task]
    candidate, champion = _values(examples, metric)
    difference = examples.difference(metric, options.bootstrap)
    margin = options.max_forgetting
    is_broken = margin is not None and difference and not is_non_inferior(difference, metric, margin=margin)
    num_spans = len(np.unique(spans))
    fact = (
        f"On {len(examples):,} examples of {num_spans:,} older {'span' if num_spans == 1 else 'spans'}, {metric} is "
        f"{value_words(candidate)}{comparison_words(champion, difference, options.bootstrap)}"
    )
    return BackwardTransfer(
        metric=metric,
        candidate=candidate,
        champion=champion,
        difference=difference,
        by_span=dict(_by_span(examples, spans, metric)),
        passed=not is_broken,
        sentence=f"{fact}; {_required_words(difference, len(examples), options, passed=not is_broken)}.",
    )


def _values(examples: ScoredExamples, metric: str) -> tuple[float | None, float | None]:
    candidate, champion = (
        metrics_of(examples.task, examples.labels, scores).get(metric)
        for scores in (examples.candidate, examples.champion)
    )
    return candidate, champion


def _by_span(examples: ScoredExamples, spans: Array, metric: str) -> Iterator[tuple[int, tuple[float, float]]]:
    found, counts = np.unique(spans, return_counts=True)
    # In a long line most spans have a few examples left each: nothing is computed of what is not shown.
    for span in found[counts >= MIN_SHOWN_EXAMPLES]:
        candidate, champion = _values(examples.take(spans == span), metric)
        if candidate is not None and champion is not None:
            yield int(span), (candidate, champion)


def _required_words(difference: Difference | None, num_examples: int, options: GateOptions, *, passed: bool) -> str:
    if options.max_forgetting is None:
        return "nothing required"
    words = non_inferiority_words(options.max_forgetting, options.bootstrap)
    if difference is None:
        return f"required: {words}: {undecided_words(num_examples, options.bootstrap)}: decides nothing"
    return f"required: {words}: {'passed' if passed else 'failed'}"
