"""The HTML summary for people: one file that opens offline. The numbers are the caller's; none is measured here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from core.files import write_text_atomically
from monitoring.chart import chart_html, older_spans_chart_html, prequential_chart_html
from monitoring.span_point import SpanPoint
from schemas.gate import OVERALL, GateReport, GateRow
from schemas.scores import PrequentialOptions, PrequentialSummary
from schemas.verdicts import DriftReport, Finding, Verdict

MAX_RENDERED_FINDINGS = 12
_TEMPLATE = "summary.html.jinja"


@dataclass(frozen=True)
class Champion:
    """The model that serves.

    Attributes:
        span: Label of the span whose cycle trained it.
        lineage: What made it, as pairs of a word and a value, e.g. `("base model", "version 3")`.
    """

    version: int
    span: str
    lineage: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Summary:
    """Everything the summary shows.

    Attributes:
        title: The pipeline's name, as a person would say it.
        written_at: When the summary was written, as text.
        spans: One point per span, oldest first.
        num_older: Spans before those, which are not shown.
        champion: The model that serves; None before the first push.
        gate: The latest cycle's gate table, where one was made.
        drift: The latest span's findings, where it was measured.
        prequential: Where the champion's scores on new spans stand; None before the first.
        prequential_options: How the points' prequential scores are averaged in the chart.
        metric: What the points' scores are, e.g. `AUC`; greater is better.
    """

    title: str
    written_at: str
    spans: Sequence[SpanPoint]
    num_older: int = 0
    champion: Champion | None = None
    gate: GateReport | None = None
    drift: DriftReport | None = None
    prequential: PrequentialSummary | None = None
    prequential_options: PrequentialOptions = field(default_factory=PrequentialOptions)
    metric: str = "AUC"


def write_summary(path: Path, summary: Summary) -> None:
    """Write the summary to `path` as one self-contained HTML file; all text in it is escaped."""
    html = _template().render(
        summary=summary,
        sentence=gain_sentence(summary.spans, summary.metric),
        chart=chart_html(summary.spans, summary.metric),
        prequential_chart=prequential_chart_html(summary.spans, summary.metric, summary.prequential_options),
        older_spans_chart=_older_spans_chart(summary),
        gate_rows=shown_gate_rows(summary.gate),
        required=required_words,
        findings=top_findings(summary.drift),
        num_pushed=sum(point.pushed_version is not None for point in summary.spans),
        num_blocked=sum(point.drift == Verdict.BLOCK.word for point in summary.spans),
    )
    write_text_atomically(path, html)


@cache
def _template() -> Template:
    """Return the page's template; a process that writes the page after every cycle compiles it once."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def gain_sentence(spans: Sequence[SpanPoint], metric: str) -> str:
    """Say what retraining was worth: the serving model's mean score before each cycle against the first model's.

    The champion had not seen any of the span, as the first model has not. A candidate's own score would flatter: it
    trained on other examples of the same span.
    """
    pairs = [(point.champion, point.first) for point in spans if point.champion is not None and point.first is not None]
    if not pairs:
        return "No span has been scored by both a retrained model and the first one yet."
    champion, first = mean(pair[0] for pair in pairs), mean(pair[1] for pair in pairs)
    side = "more" if champion >= first else "less"
    spans_word = "span" if len(pairs) == 1 else "spans"
    return (
        f"Over {len(pairs)} {spans_word} that it had not seen yet, the serving model reached a mean {metric} of "
        f"{champion:.3f}: {abs(champion - first):.3f} {side} than the first model, left as it was, at {first:.3f}."
    )


def shown_gate_rows(gate: GateReport | None) -> list[GateRow]:
    """Return the rows that decided or that are about the whole split: failures first, what is undecided last."""
    rows = () if gate is None else gate.rows
    decisive = [row for row in rows if not row.passed or row.slice == OVERALL or row.is_bounded]
    return sorted(decisive, key=lambda row: (row.passed, row.slice != OVERALL, row.is_undecided))


def required_words(row: GateRow) -> list[str]:
    """Return what the gate required of a row, one clause per bound; nothing where it has none."""
    words = [] if row.lower_bound is None else [f"at least {row.lower_bound:g}"]
    words += [] if row.upper_bound is None else [f"at most {row.upper_bound:g}"]
    words += [] if row.change_bound is None else [row.change_bound]
    return words


def top_findings(drift: DriftReport | None) -> list[Finding]:
    """Return the findings nearest to or furthest past their bounds, the worst verdicts first."""
    findings = [] if drift is None else list(drift.findings)
    findings.sort(key=lambda finding: (-Verdict[finding.verdict.upper()], -_share_of_bound(finding)))
    return findings[:MAX_RENDERED_FINDINGS]


def _older_spans_chart(summary: Summary) -> str | None:
    transfer = None if summary.gate is None else summary.gate.backward_transfer
    if transfer is None or not transfer.by_span:
        return None
    labels = {point.span: point.label for point in summary.spans}
    return older_spans_chart_html(transfer.by_span, labels, summary.metric)


def _share_of_bound(finding: Finding) -> float:
    # `num_examples` is held against a lower bound: far above it is good.
    if finding.value is None or not finding.threshold or finding.measure == "num_examples":
        return 0.0
    return finding.value / finding.threshold
