"""One span as a point of the summary's chart and a row of its table. Nothing is computed here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SpanPoint:
    """What happened with one span.

    Attributes:
        label: What a person calls the span, e.g. `5 Mar 2013`; unique among the points.
        state: The ledger's word for how its cycle ended.
        num_examples: Examples over all splits.
        drift: The drift verdict's word.
        candidate: Score on the span's eval split of the model that its cycle trained.
        champion: Score there of the model that served before the cycle.
        first: Score there of the first model ever pushed, never retrained.
        prequential: Score of the model that served before the cycle on the whole span, before anything trained on it.
        pushed_version: The version that the cycle pushed.
        seconds: How long the cycle took.
        reason: Why it was pushed or not, in a sentence.
    """

    span: int
    label: str
    state: str
    num_examples: int | None = None
    drift: str | None = None
    candidate: float | None = None
    champion: float | None = None
    first: float | None = None
    prequential: float | None = None
    pushed_version: int | None = None
    seconds: float | None = None
    reason: str = ""
