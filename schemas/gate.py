"""What the gate asks of a candidate and what it measured, in the form that decision record and summary show."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Record
from schemas.scores import PrequentialOptions, PrequentialSummary

OVERALL = "overall"
GATE_REPORT_FILE = "gate.json"  # in a GateVerdict artifact

MetricName = Literal[
    "auc", "binary_crossentropy", "calibration", "accuracy", "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy", "mean_squared_error", "mean_absolute_error", "example_count",
]  # fmt: skip
TASK_METRICS: dict[str, tuple[MetricName, ...]] = {
    "binary": ("auc", "binary_crossentropy", "calibration", "accuracy", "mean_squared_error", "example_count"),
    "multiclass": ("sparse_categorical_accuracy", "sparse_categorical_crossentropy", "example_count"),
    "regression": ("mean_squared_error", "mean_absolute_error", "calibration", "example_count"),
}
HIGHER_IS_BETTER = frozenset({"auc", "accuracy", "sparse_categorical_accuracy"})
# Metrics that are neither better high nor low cannot be compared with the champion's.
INCOMPARABLE = frozenset({"calibration", "example_count"})
# The one metric that stands for a model, by task.
HEADLINE_METRIC: dict[str, MetricName] = {
    "binary": "auc",
    "multiclass": "sparse_categorical_accuracy",
    "regression": "mean_squared_error",
}


class MetricBound(Record):
    """What the gate asks of one metric on one set of slices.

    Attributes:
        metric: TFMA metric name, one that the label's task has.
        minimum: Lowest acceptable value; None: any.
        maximum: Highest acceptable value; None: any.
        policy: What is asked against the champion, on the same examples. `absolute`: nothing. `superior`: the whole
            confidence interval of the difference says better. `non_inferior`: the whole interval is above `-margin`.
        margin: How much worse than the champion's the value may be, in the metric's own unit.
        slices: Slice by these columns; empty: over all examples.
    """

    metric: MetricName
    minimum: float | None = None
    maximum: float | None = None
    policy: Literal["absolute", "superior", "non_inferior"] = "absolute"
    margin: float = Field(default=0.0, ge=0)
    slices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_compared(self) -> "MetricBound":
        if self.policy != "absolute" and self.metric in INCOMPARABLE:
            raise ValueError(f"policy {self.policy!r} has no meaning for {self.metric}, neither better high nor low")
        if (self.policy == "non_inferior") != (self.margin > 0):
            raise ValueError(
                "expected a margin above 0 with policy non_inferior and with no other; "
                f"received policy={self.policy!r} with margin={self.margin:g}"
            )
        return self


class BootstrapOptions(Record):
    """The paired bootstrap of the difference between candidate and champion.

    Attributes:
        num_replicates: Resamples.
        confidence: Of the two-sided percentile interval; one-sided, a policy errs with half the rest.
        min_examples: A slice with fewer is reported as too small and decides nothing.
        seed: Seed of the resamples.
    """

    num_replicates: int = Field(default=1000, ge=100)
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    min_examples: int = Field(default=200, ge=2)
    seed: int = 0


class GateOptions(Record):
    """What a candidate must show. At least one absolute bound: without a champion nothing else decides.

    Attributes:
        slices: Columns, or combinations of them, by which metrics are also reported.
        bounds: What is required.
        bootstrap: How differences are judged.
        max_forgetting: How much worse than the champion's the headline metric may be on the replay buffer's sample of
            older eval splits, as the margin of a non-inferiority test; None: reported only.
        prequential: How the champion's test-then-train scores are summarised and judged.
    """

    slices: tuple[tuple[str, ...], ...] = ()
    bounds: tuple[MetricBound, ...] = Field(min_length=1)
    bootstrap: BootstrapOptions = BootstrapOptions()
    max_forgetting: float | None = Field(default=None, gt=0)
    prequential: PrequentialOptions = PrequentialOptions()

    @model_validator(mode="after")
    def _has_an_absolute_bound(self) -> "GateOptions":
        if not any(bound.minimum is not None or bound.maximum is not None for bound in self.bounds):
            raise ValueError(
                "expected at least one bound with a minimum or a maximum, since a first model has no champion"
            )
        return self


class Difference(Record):
    """Candidate minus champion on the same examples, by paired bootstrap.

    Attributes:
        value: The difference as measured; positive is better or worse as the metric is.
        low: Lower end of the confidence interval.
        high: Upper end.
        min_detectable_effect: Smallest true difference that this many examples would show as significant with 80 %
            probability: `(z(confidence) + z(0.8)) * standard error`.
        num_examples: Examples it rests on.
    """

    value: float
    low: float
    high: float
    min_detectable_effect: float
    num_examples: int


class GateRow(Record):
    """One metric on one slice of the eval split.

    Champion and difference are exact, from scores kept per example. The candidate's value is TFMA's, which its bounds
    are held against; its AUC is an approximation by 10,000 thresholds, so candidate minus champion may differ from the
    difference in the fifth decimal.

    Attributes:
        slice: `overall`, or feature values such as `carrier=AA`.
        candidate: The candidate's value; None where TFMA has none (no example in the slice, or undefined there).
        champion: The champion's value; None where there is no champion or no value.
        lower_bound: Least value allowed; None where there is none.
        upper_bound: Greatest value allowed; None where there is none.
        change_bound: What is required of the change against the champion, in words; None where nothing is.
        difference: Candidate minus champion with its interval; None without a champion, where the metric cannot be
            compared, or where the slice is too small to tell.
        passed: Nothing required of the row was found broken.
        is_undecided: Something is required of the change, but the slice has too few examples to tell.
        sentence: The row in words and numbers.
    """

    slice: str
    metric: str
    candidate: float | None
    champion: float | None
    lower_bound: float | None
    upper_bound: float | None
    change_bound: str | None
    difference: Difference | None = None
    passed: bool
    is_undecided: bool = False
    sentence: str

    @property
    def is_bounded(self) -> bool:
        """Whether anything is required of the row; a bound of 0 is one."""
        return any(bound is not None for bound in (self.lower_bound, self.upper_bound, self.change_bound))


class BackwardTransfer(Record):
    """What training on new data did to old knowledge: both models on a fixed sample of older eval splits.

    Attributes:
        metric: The headline metric.
        candidate: Its value on the whole sample.
        champion: The champion's; None without a champion.
        difference: Backward transfer, candidate minus champion; None without a champion or with too few examples.
        by_span: Candidate's and champion's values per older span that has enough examples.
        passed: False if `max_forgetting` is exceeded.
        sentence: The above in words.
    """

    metric: str
    candidate: float | None
    champion: float | None
    difference: Difference | None
    by_span: dict[int, tuple[float, float]]
    passed: bool
    sentence: str


class GateReport(Record):
    """The gate's table and its verdict.

    Attributes:
        candidate: Overall metrics by TFMA's names, e.g. `auc`, `binary_crossentropy`, `calibration`, `example_count`.
        champion: The same of the champion; empty where there is none.
        backward_transfer: How much was forgotten; None where there is no sample of older spans.
        prequential: Where the champion's test-then-train scores stand; None before the first.
        reasons: Why the candidate was not blessed, one sentence each; empty where it was.
    """

    is_blessed: bool
    rows: tuple[GateRow, ...]
    candidate: dict[str, float]
    champion: dict[str, float]
    backward_transfer: BackwardTransfer | None = None
    prequential: PrequentialSummary | None = None
    reasons: tuple[str, ...]
