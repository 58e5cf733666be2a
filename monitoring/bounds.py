"""The decision: a measured value held against its bounds gives a finding. How the value is measured is not here."""

from collections.abc import Iterable

from schemas.drift import Bounds
from schemas.verdicts import Finding, Verdict


def judge(value: float, bounds: Bounds) -> tuple[Verdict, float | None]:
    """Return the worst verdict whose bound `value` exceeds, and that bound.

    A value that exceeds nothing passes, and the bound returned is then the lowest one that is set: what it would
    have had to exceed.

    Raises:
        ValueError: `value` is NaN, which exceeds nothing and would pass unseen.

    Example:
        >>> judge(0.4, Bounds(warn=0.1, block=0.5))
        (<Verdict.WARN: 1>, 0.1)
        >>> judge(0.05, Bounds(warn=0.1, block=0.5))
        (<Verdict.PASS: 0>, 0.1)
    """
    if value != value:
        raise ValueError("A NaN can't be judged. Expected a number; received value=nan. Report it as not measurable.")
    by_verdict = ((Verdict.BLOCK, bounds.block), (Verdict.COLD_START, bounds.cold_start), (Verdict.WARN, bounds.warn))
    for verdict, bound in by_verdict:
        if bound is not None and value > bound:
            return verdict, bound
    return Verdict.PASS, min((bound for _, bound in by_verdict if bound is not None), default=None)


def bounded_finding(
    fact: str, value: float, *, bounds: Bounds, measure: str, against: str, feature: str | None = None
) -> Finding:
    """Judge `value` and say so: `fact`, a clause with the value in it, becomes a sentence that names the bound.

    Example:
        >>> bounded_finding("The label rate rose by 0.2", 0.2, bounds=Bounds(warn=0.1), measure="label_rate",
        ...                 against="previous").sentence
        'The label rate rose by 0.2, above the warn bound of 0.1.'
    """
    verdict, threshold = judge(value, bounds)
    if threshold is None:
        rest = "no bound is set"
    elif verdict is Verdict.PASS:
        rest = f"within the lowest bound of {threshold:g}"
    else:
        rest = f"above the {verdict.word.replace('_', ' ')} bound of {threshold:g}"
    return plain_finding(
        f"{fact}, {rest}.",
        verdict,
        measure=measure,
        against=against,
        feature=feature,
        value=value,
        threshold=threshold,
    )


def plain_finding(
    sentence: str,
    verdict: Verdict,
    *,
    measure: str,
    against: str,
    feature: str | None = None,
    value: float | None = None,
    threshold: float | None = None,
) -> Finding:
    """Return a finding whose verdict follows from the fact itself, not from bounds."""
    return Finding(
        feature=feature,
        measure=measure,
        against=against,
        value=value,
        threshold=threshold,
        verdict=verdict.word,
        sentence=sentence,
    )


def worst(findings: Iterable[Finding]) -> str:
    """Return the word of the worst verdict among `findings`; `pass` where there are none."""
    return max((Verdict[finding.verdict.upper()] for finding in findings), default=Verdict.PASS).word
