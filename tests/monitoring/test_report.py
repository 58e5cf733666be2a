"""The summary as a reader gets it: values there, hostile text harmless, nothing fetched from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monitoring.report import (
    Champion,
    Summary,
    gain_sentence,
    required_words,
    shown_gate_rows,
    top_findings,
    write_summary,
)
from monitoring.span_point import SpanPoint
from schemas.gate import BackwardTransfer, Difference, GateReport, GateRow
from schemas.scores import PrequentialOptions, PrequentialSummary
from schemas.verdicts import DriftReport, Finding

HOSTILE = "<script>alert('x')</script>"
POINTS = (
    SpanPoint(0, "1 Jan", "done", 48_123, None, 0.7012, None, 0.7012, None, 1, 31.4, "It met the absolute bounds."),
    SpanPoint(1, "8 Jan", "done", 6_042, "warn", 0.7105, 0.6981, 0.6981, 0.6876, None, 12.0, "AUC fell in carrier=AA."),
    SpanPoint(2, "15 Jan", "blocked", 5_913, "block"),
)


def row(metric: str, *, passed: bool = True, slice_words: str = "overall", lower_bound: float | None = None) -> GateRow:
    return GateRow(
        slice=slice_words,
        metric=metric,
        candidate=0.7,
        champion=None,
        lower_bound=lower_bound,
        upper_bound=None,
        change_bound=None,
        passed=passed,
        sentence=f"{metric} of {slice_words}",
    )


DIFFERENCE = Difference(value=0.0124, low=-0.0031, high=0.0279, min_detectable_effect=0.0234, num_examples=1203)
TRANSFER = BackwardTransfer(
    metric="auc",
    candidate=0.69,
    champion=0.7,
    difference=None,
    by_span={0: (0.6543, 0.6432), 9: (0.6789, 0.6654)},
    passed=False,
    sentence="It forgot the winter.",
)
DECAYED = PrequentialSummary(
    metric="auc", latest=0.6, sliding=0.65, faded=0.66, has_decayed=True, sentence="Scores have decayed."
)


def finding(verdict: str, value: float | None, *, measure: str = "l_infinity", sentence: str = "") -> Finding:
    return Finding(
        feature="carrier",
        measure=measure,
        against="previous",
        value=value,
        threshold=0.5,
        verdict=verdict,
        sentence=sentence,
    )


@pytest.fixture
def summary() -> Summary:
    rows = (
        row("auc", passed=False).model_copy(update={"difference": DIFFERENCE}),
        row("auc", slice_words="carrier=ZZ", lower_bound=0.5).model_copy(update={"is_undecided": True}),
    )
    gate = GateReport(
        is_blessed=False,
        rows=rows,
        candidate={},
        champion={},
        backward_transfer=TRANSFER,
        reasons=("The AUC is too low.",),
    )
    return Summary(
        title="Late flights",
        written_at="21 November 2026, 08:40",
        spans=POINTS,
        champion=Champion(1, "1 Jan", (("transform graph", "sha256:abcd"),)),
        gate=gate,
        drift=DriftReport(verdict="warn", findings=(finding("warn", 0.6, sentence="Carriers changed by 0.6."),)),
        prequential=DECAYED,
        prequential_options=PrequentialOptions(window_spans=3, fading_factor=0.7),
    )


def render(summary: Summary, tmp_path: Path) -> str:
    write_summary(tmp_path / "out" / "summary.html", summary)
    return (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")


def page_of(html: str) -> str:
    """Return the page without plotly's own script."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


@pytest.mark.parametrize(
    "text",
    [
        "Late flights", "48,123", "0.7105", "0.6981", "version 1", "v1", "blocked", "It met the absolute bounds.",
        "not blessed", "The AUC is too low.", "Carriers changed by 0.6.", "sha256:abcd", "21 November 2026, 08:40",
        "+0.0124", "-0.0031 to +0.0279", "0.0234", "undecided", "It forgot the winter.", "Scores have decayed.",
        "0.6876",
    ],
)  # fmt: skip
def test_what_the_caller_said_is_on_the_page(summary: Summary, tmp_path: Path, text: str) -> None:
    assert text in page_of(render(summary, tmp_path))


def test_the_charts_show_prequential_scores_and_older_spans(summary: Summary, tmp_path: Path) -> None:
    scripts = render(summary, tmp_path)
    for text in ("mean of the last 3 spans", "fading average, factor 0.7", "0.6876", "span 9", "0.6789", "0.6654"):
        assert text in scripts
    assert scripts.count('class="plotly-graph-div"') == 3
    assert len(scripts) < 2 * len(render(Summary(title="", written_at="", spans=()), tmp_path))


def test_hostile_text_is_shown_and_not_run(summary: Summary, tmp_path: Path) -> None:
    hostile = dataclasses.replace(
        summary,
        title=HOSTILE,
        metric=HOSTILE,
        gate=summary.gate.model_copy(
            update={
                "rows": (row(HOSTILE, slice_words=HOSTILE),),
                "backward_transfer": TRANSFER.model_copy(update={"sentence": HOSTILE}),
            }
        ),
        prequential=DECAYED.model_copy(update={"sentence": HOSTILE}),
        spans=(SpanPoint(0, HOSTILE, HOSTILE, drift=HOSTILE, candidate=0.7, prequential=0.6, reason=HOSTILE),),
        champion=Champion(1, HOSTILE, ((HOSTILE, HOSTILE),)),
        drift=DriftReport(verdict="warn", findings=(finding("warn", 0.6, sentence=HOSTILE),)),
    )
    html = render(hostile, tmp_path)
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html


def test_the_page_fetches_nothing(summary: Summary, tmp_path: Path) -> None:
    fetched: list[str] = []

    class Fetches(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            fetched.extend(str(value) for name, value in attrs if name in ("src", "href"))

    Fetches().feed(render(summary, tmp_path))
    assert fetched == []


def test_the_first_run_has_a_page_too(tmp_path: Path) -> None:
    page = page_of(render(Summary(title="Empty", written_at="today", spans=()), tmp_path))
    assert "No span yet." in page
    assert "none yet" in page
    assert "Latest gate" not in page
    assert "before training" not in page
    assert "Older spans" not in page


def test_older_spans_without_enough_examples_have_a_sentence_and_no_chart(summary: Summary, tmp_path: Path) -> None:
    gate = summary.gate.model_copy(update={"backward_transfer": TRANSFER.model_copy(update={"by_span": {}})})
    html = render(dataclasses.replace(summary, gate=gate), tmp_path)
    assert "It forgot the winter." in html
    assert html.count('class="plotly-graph-div"') == 2


def test_required_words_name_every_bound() -> None:
    bounded = row("auc", lower_bound=0.0).model_copy(update={"upper_bound": 1.0, "change_bound": "better"})
    assert required_words(bounded) == ["at least 0", "at most 1", "better"]


def test_the_gain_compares_the_spans_that_have_both_scores() -> None:
    points = [SpanPoint(0, "a", "done", champion=0.8, first=0.7), SpanPoint(1, "b", "done", champion=0.1)]
    assert gain_sentence(points, "AUC") == (
        "Over 1 span that it had not seen yet, the serving model reached a mean AUC of 0.800: "
        "0.100 more than the first model, left as it was, at 0.700."
    )
    assert "0.100 less than" in gain_sentence([SpanPoint(0, "a", "done", champion=0.6, first=0.7)], "AUC")
    assert gain_sentence([], "AUC").startswith("No span has been scored")


def test_failures_lead_the_gate_table_and_unbounded_slices_stay_out() -> None:
    rows = (
        row("auc", slice_words="carrier=AA"),
        row("auc"),
        row("loss", slice_words="carrier=AA", lower_bound=0.5),
        row("loss", slice_words="carrier=UA", passed=False),
    )
    report = GateReport(is_blessed=False, rows=rows, candidate={}, champion={}, reasons=())
    shown = [(shown.metric, shown.slice) for shown in shown_gate_rows(report)]
    assert shown == [("loss", "carrier=UA"), ("auc", "overall"), ("loss", "carrier=AA")]


def test_the_worst_findings_come_first_and_are_few() -> None:
    many = [finding("pass", value / 100) for value in range(30)]
    worst = [finding("warn", 0.6), finding("block", None), finding("warn", 0.9)]
    plenty = finding("pass", 5000, measure="num_examples")
    top = top_findings(DriftReport(verdict="block", findings=(plenty, *many, *worst)))
    assert [(shown.verdict, shown.value) for shown in top[:4]] == [
        ("block", None), ("warn", 0.9), ("warn", 0.6), ("pass", 0.29),
    ]  # fmt: skip
    assert len(top) == 12
