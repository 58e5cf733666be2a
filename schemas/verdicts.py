"""Verdicts and the findings they rest on. A verdict is data: no exception is ever raised for one."""

from enum import IntEnum

from schemas.base import Record

DRIFT_REPORT_FILE = "drift.json"  # in a DriftVerdict artifact


class Verdict(IntEnum):
    """What a span's data means for the run; higher is worse, so that verdicts combine by `max`."""

    PASS = 0
    WARN = 1
    COLD_START = 2
    BLOCK = 3

    @property
    def word(self) -> str:
        """The verdict as it is written in records and tables: `pass`, `warn`, `cold_start` or `block`."""
        return self.name.lower()


class Finding(Record):
    """One measured fact about a span, and what it says about it.

    Attributes:
        feature: Column, or None for the span as a whole.
        measure: What was measured, e.g. `l_infinity`, `jensen_shannon`, `label_rate`, `missing_rate`.
        against: What it was held against: `previous`, `reference`, `schema`, or `config` for a limit on the span alone.
        value: Measured value; None where the finding has no number.
        threshold: The bound that the value was held against; None where there is none.
        verdict: Verdict of this finding alone, by word.
        sentence: The finding in words and numbers.
    """

    feature: str | None
    measure: str
    against: str
    value: float | None
    threshold: float | None
    verdict: str
    sentence: str


class DriftReport(Record):
    """All findings about a span and the verdict that follows, in the form `DriftGate` writes."""

    verdict: str
    findings: tuple[Finding, ...]
