"""The gate's table and its verdict: TFMA's values and absolute bounds, and the noisy difference to the champion.

In here: what follows from measurements. Not in here: reading TFMA's output (evaluation.py), the champion's values
(scored_examples.py), the interval of a difference (bootstrap.py), forgetting (forgetting.py).
"""

import math
from collections.abc import Iterator

import numpy as np

from monitoring.bootstrap import is_non_inferior, is_superior
from monitoring.evaluation import Evaluation, SliceKey, slice_words
from monitoring.scored_examples import ScoredExamples
from monitoring.wording import (
    comparison_words,
    non_inferiority_words,
    superiority_words,
    undecided_words,
    value_words,
)
from schemas.gate import (
    OVERALL,
    BackwardTransfer,
    BootstrapOptions,
    Difference,
    GateOptions,
    GateReport,
    GateRow,
    MetricBound,
)
from schemas.scores import PrequentialSummary


def explain_gate(
    evaluation: Evaluation,
    *,
    options: GateOptions,
    comparison: ScoredExamples | None = None,
    backward_transfer: BackwardTransfer | None = None,
    prequential: PrequentialSummary | None = None,
    is_warm: bool = False,
) -> GateReport:
    """Say per slice and metric what was measured and required, and whether the candidate may serve.

    Absolute bounds are TFMA's verdict. What is asked against the champion is held against the interval of the
    difference; where there are too few examples for one it decides nothing, and the absolute bounds alone do. The gate
    fails closed where TFMA passes: without a bound, and without any evaluated example.

    Args:
        evaluation: What TFMA measured of the candidate and held against the absolute bounds of `options`.
        options: What is required.
        comparison: The evaluated examples as candidate and champion score them; None without a champion or an example.
        backward_transfer: What `monitoring.forgetting` measured; None where there is no sample of older spans.
        prequential: Where the champion's scores stand; None before the first.
        is_warm: Whether the candidate started from a base model, which `on_decay: block` keeps from serving.
    """
    rows = (*_rows(evaluation, options, comparison), *_missing_rows(evaluation))
    reasons = [
        *(row.sentence for row in rows if not row.passed),
        *_failures_to_measure(evaluation, comparison),
        *([backward_transfer.sentence] if backward_transfer and not backward_transfer.passed else []),
        *_decay(options, prequential, is_warm=is_warm),
    ]
    if evaluation.is_valid is False and not reasons:
        reasons.append("TFMA's validation failed without naming a metric.")
    overall = [row for row in rows if row.slice == OVERALL]
    return GateReport(
        is_blessed=not reasons,
        rows=rows,
        candidate={row.metric: row.candidate for row in overall if row.candidate is not None},
        champion={row.metric: row.champion for row in overall if row.champion is not None},
        backward_transfer=backward_transfer,
        prequential=prequential,
        reasons=tuple(reasons),
    )


def _failures_to_measure(evaluation: Evaluation, comparison: ScoredExamples | None) -> Iterator[str]:
    if evaluation.is_valid is None:
        yield "TFMA was given no bound for any metric: nothing can bless a model."
    if not evaluation.metrics.get(()):
        yield "No example of the eval split was evaluated: nothing is known about the candidate."
    if comparison is not None and not np.isfinite(comparison.candidate).all():
        rows = np.isfinite(comparison.candidate).reshape(len(comparison), -1).all(axis=1)
        yield f"The candidate's score of {np.sum(~rows):,} of {len(rows):,} examples is not a finite number."


def _decay(options: GateOptions, prequential: PrequentialSummary | None, *, is_warm: bool) -> Iterator[str]:
    if options.prequential.on_decay == "block" and prequential is not None and prequential.has_decayed and is_warm:
        yield f"{prequential.sentence} Until a cold start wins, no warm-started candidate may serve."


def _rows(evaluation: Evaluation, options: GateOptions, comparison: ScoredExamples | None) -> Iterator[GateRow]:
    for slice_key in sorted(evaluation.metrics, key=lambda key: (len(key), str(key))):
        columns = sorted(column for column, _ in slice_key)
        bounds = [bound for bound in options.bounds if sorted(bound.slices) == columns]
        examples = None if comparison is None else comparison.in_slice(slice_key)
        # A metric that TFMA could not compute still has its row where something is required of it.
        metrics = (*sorted(evaluation.metrics[slice_key]), *(bound.metric for bound in bounds))
        for metric in dict.fromkeys(metrics):
            of_metric = [bound for bound in bounds if bound.metric == metric]
            yield _row(evaluation, slice_key, metric, of_metric, examples, options.bootstrap)


def _row(
    evaluation: Evaluation,
    slice_key: SliceKey,
    metric: str,
    bounds: list[MetricBound],
    examples: ScoredExamples | None,
    bootstrap: BootstrapOptions,
) -> GateRow:
    measured = evaluation.metrics[slice_key].get(metric)
    candidate = measured if measured is not None and math.isfinite(measured) else None
    champion = None if examples is None else examples.champion_metrics.get(metric)
    difference = None if examples is None else examples.difference(metric, bootstrap)
    policies = [] if examples is None else [bound for bound in bounds if bound.policy != "absolute"]
    is_valid = (slice_key, metric) not in evaluation.failures
    is_not_worse = difference is None or all(_holds(bound, difference) for bound in policies)
    row = GateRow(
        slice=slice_words(slice_key),
        metric=metric,
        candidate=candidate,
        champion=champion,
        lower_bound=max((bound.minimum for bound in bounds if bound.minimum is not None), default=None),
        upper_bound=min((bound.maximum for bound in bounds if bound.maximum is not None), default=None),
        change_bound=" and ".join(_policy_words(bound, bootstrap) for bound in policies) or None,
        difference=difference,
        passed=is_valid and is_not_worse,
        is_undecided=bool(policies) and difference is None,
        sentence="",
    )
    undecided = "" if examples is None else undecided_words(len(examples), bootstrap)
    required = _required_words(row, is_valid=is_valid, is_not_worse=is_not_worse, undecided=undecided)
    fact = f"{metric} ({row.slice}) is {value_words(candidate)}{comparison_words(champion, difference, bootstrap)}"
    return row.model_copy(update={"sentence": f"{fact}; {required}."})


def _holds(bound: MetricBound, difference: Difference) -> bool:
    if bound.policy == "superior":
        return is_superior(difference, bound.metric)
    return is_non_inferior(difference, bound.metric, margin=bound.margin)


def _policy_words(bound: MetricBound, options: BootstrapOptions) -> str:
    if bound.policy == "superior":
        return superiority_words(options)
    return non_inferiority_words(bound.margin, options)


def _required_words(row: GateRow, *, is_valid: bool, is_not_worse: bool, undecided: str) -> str:
    """Return each thing that is required of the row, followed by what became of it."""
    absolute = [f"at least {row.lower_bound:g}"] if row.lower_bound is not None else []
    absolute += [f"at most {row.upper_bound:g}"] if row.upper_bound is not None else []
    clauses = [f"{' and '.join(absolute)}: {_verdict_word(is_valid)}"] if absolute else []
    if row.is_undecided:
        decides = "the absolute bounds alone decide" if row.slice == OVERALL else "decides nothing"
        clauses.append(f"{row.change_bound}: {undecided}: {decides}")
    elif row.change_bound is not None:
        clauses.append(f"{row.change_bound}: {_verdict_word(is_not_worse)}")
    return f"required: {'; '.join(clauses)}" if clauses else "nothing required"


def _verdict_word(passed: bool) -> str:
    return "passed" if passed else "failed"


def _missing_rows(evaluation: Evaluation) -> Iterator[GateRow]:
    for words in evaluation.missing_slices:
        yield GateRow(
            slice=words,
            metric="example_count",
            candidate=None,
            champion=None,
            lower_bound=None,
            upper_bound=None,
            change_bound=None,
            passed=False,
            sentence=f"No evaluated example is in slice {words}, of which a metric is required.",
        )
