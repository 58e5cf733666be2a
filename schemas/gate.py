"""What the gate measured and required of a candidate, in the form that the decision record and the summary show."""

from schemas.base import Record

OVERALL = "overall"
GATE_REPORT_FILE = "gate.json"  # in a ModelEvaluation artifact, beside TFMA's own files


class GateRow(Record):
    """One metric on one slice of the eval split.

    Attributes:
        slice: `overall`, or feature values such as `carrier=AA`.
        candidate: The candidate's value; None where TFMA has none (no example in the slice, or undefined there).
        champion: The champion's value; None where there is no champion or no value.
        lower_bound: Least value allowed; None where there is none.
        upper_bound: Greatest value allowed; None where there is none.
        change_bound: What is required of the change against the champion, in words; None where nothing is.
        passed: TFMA found no failure; true where nothing is required.
        sentence: The row in words and numbers.
    """

    slice: str
    metric: str
    candidate: float | None
    champion: float | None
    lower_bound: float | None
    upper_bound: float | None
    change_bound: str | None
    passed: bool
    sentence: str

    @property
    def is_bounded(self) -> bool:
        """Whether anything is required of the row; a bound of 0 is one."""
        return any(bound is not None for bound in (self.lower_bound, self.upper_bound, self.change_bound))


class GateReport(Record):
    """The gate's table and its verdict.

    Attributes:
        candidate: Overall metrics by TFMA's names, e.g. `auc`, `binary_crossentropy`, `calibration`, `example_count`.
        champion: The same of the champion; empty where there is none.
        reasons: Why the candidate was not blessed, one sentence each; empty where it was.
    """

    is_blessed: bool
    rows: tuple[GateRow, ...]
    candidate: dict[str, float]
    champion: dict[str, float]
    reasons: tuple[str, ...]
