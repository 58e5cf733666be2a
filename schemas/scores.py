"""Scores that are kept per span: how the champion did on data that nothing had trained on yet."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from schemas.base import Record
from schemas.ledger_records import SpanRecord

PREQUENTIAL_FILE = "prequential.json"  # in a PrequentialScore artifact


class PrequentialScore(Record):
    """The champion's metrics on one whole span, train and eval split, before anything trained on it.

    Attributes:
        metrics: By the names of `monitoring.metrics`, e.g. `auc` and `binary_crossentropy`; one that is undefined on
            the span, such as the AUC of a single class, is absent.
    """

    span: int
    num_examples: int
    metrics: dict[str, float]


class PrequentialOptions(Record):
    """How prequential scores are summarised, and when they count as decayed.

    Attributes:
        window_spans: Spans in the sliding mean.
        fading_factor: Weight of a span relative to the one after it; Gama et al., On evaluating stream learning
            algorithms, Machine Learning 2013, section 4.2.
        max_decay: Greatest relative fall of the headline metric below the best sliding mean so far.
        num_spans: How many spans in a row must be below it to call it decay.
        on_decay: `report` only says so; `block` keeps warm-started candidates from serving until a cold start wins.
    """

    window_spans: int = Field(default=4, ge=1)
    fading_factor: float = Field(default=0.8, gt=0, le=1)
    max_decay: float = Field(default=0.05, gt=0)
    num_spans: int = Field(default=2, ge=1)
    on_decay: Literal["report", "block"] = "report"


class PrequentialSummary(Record):
    """Where the series stands after a span.

    Attributes:
        metric: The headline metric by TFMA's name.
        latest: Its value on the newest span; None where undefined.
        sliding: Mean over the window.
        faded: Fading average over all spans.
        has_decayed: Whether the decay test fires.
        sentence: The above in words.
    """

    metric: str
    latest: float | None
    sliding: float | None
    faded: float | None
    has_decayed: bool
    sentence: str


def prequential_history(records: Iterable[SpanRecord]) -> tuple[PrequentialScore, ...]:
    """Return the scores that the ledger keeps, oldest span first; spans that were not scored are left out."""
    scored = [record for record in records if record.prequential is not None]
    return tuple(
        PrequentialScore(span=record.span, num_examples=record.num_examples, metrics=record.prequential or {})
        for record in sorted(scored, key=lambda record: (record.span, record.version))
    )
