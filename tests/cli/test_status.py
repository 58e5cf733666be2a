"""What `perennial status` prints, for people and for scripts."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import perennial
from cli.status import MAX_REASONS, MAX_TOUCHED_ROWS
from core.clock import ManualClock
from core.errors import DataError
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, RunStart, SpanArrival, SpanOutcome
from schemas.spans import SpanRef

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"
NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
KEYS = {"champion", "spans", "prequential", "open_runs", "worker", "requests", "last_run", "alerts"}

Invoke = Callable[..., str]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """Run the command on a root below `tmp_path`, and return what it printed."""

    def run(*arguments: str) -> str:
        words = ["--config", str(CONFIG), "--set", f"root={tmp_path}/root", *arguments]
        result = CliRunner().invoke(perennial, ["status", *words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return run


def ref(span: int, version: int = 1) -> SpanRef:
    return SpanRef(span=span, version=version, digest=f"{span:064x}")


class History:
    """Writes what cycles leave in a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def arrive(self, *refs: SpanRef) -> None:
        self.ledger.register_spans([SpanArrival(ref=ref, num_examples=6000) for ref in refs])

    def cycle(self, span: int, state: str, **outcome: Any) -> None:
        """Run the cycle of a span to its end; `pushed` makes its model the champion."""
        run_id = f"run-{span}"
        self.ledger.start_run(RunStart(run_id=run_id, span=span, version=1, trigger="next", plan="{}"))
        if state == "pushed":
            self._push(span, run_id)
        for stage in () if state == "blocked" else ("validated", "trained", "evaluated"):
            self.ledger.move_span(ref(span), stage, run_id=run_id)
        ended = SpanOutcome.model_validate({"state": state, "run_id": run_id, **outcome})
        self.ledger.finish_span(ref(span), ended)
        self.ledger.finish_run(run_id, state)  # type: ignore[arg-type]  # a test names it as a text

    def _push(self, span: int, run_id: str) -> None:
        champion = self.ledger.champion()
        model = ModelRecord(
            version=self.ledger.reserve_version(),
            run_id=run_id,
            span=span,
            span_version=1,
            model_uri="/model",
            model_digest="a" * 64,
            training_digest="b" * 64,
            transform_graph_uri="/transform",
            transform_span=8,
            statistics_uri="/statistics",
            model_shape="c" * 64,
            pushed_at=NOON,
        )
        self.ledger.record_model(model)
        self.ledger.promote(champion.version if champion else None, model.version, run_id=run_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def history(tmp_path: Path, clock: ManualClock) -> Iterator[History]:
    """A ledger with history, a pushed, a rejected, a failed and a waiting span."""
    with Ledger.open(f"sqlite:///{tmp_path}/root/ledger.sqlite", "flights", clock=clock) as ledger:
        made = History(ledger)
        made.arrive(*(ref(span) for span in range(7, 12)))
        made.cycle(8, "pushed", drift_verdict="pass", candidate_auc=0.71239, pushed_version=1, seconds=31.26)
        ledger.finish_history([ref(7)], run_id="run-8", reason="in the window of span 8")
        made.cycle(
            9,
            "rejected",
            drift_verdict="warn",
            candidate_auc=0.7,
            champion_auc=0.71,
            prequential={"auc": 0.6912, "binary_crossentropy": 0.5},
            seconds=12.0,
            reason="AUC 0.70 is below the champion's 0.71 [change].",
        )
        ledger.start_run(RunStart(run_id="run-10", span=10, version=1, trigger="next", plan="{}"))
        ledger.finish_run("run-10", "failed", error="Data error: Split-eval is missing.")
        yield made


def test_without_a_ledger_it_says_what_to_do_and_makes_none(invoke: Invoke, tmp_path: Path) -> None:
    assert "has no spans yet. Run `perennial ingest`" in invoke()
    document = json.loads(invoke("--json"))
    assert set(document) == KEYS
    assert not any(document.values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("history")
def test_the_json_document_has_the_promised_keys(invoke: Invoke) -> None:
    document = json.loads(invoke("--json"))
    assert set(document) == KEYS
    assert document["champion"] == {
        "version": 1,
        "span": 8,
        "since": "2013-03-01T12:00:00Z",
        "previous": None,
        "moved_by": "cycle",
        "reason": None,
    }
    assert document["last_run"]["outcome"] == "failed"
    assert [span["state"] for span in document["spans"]] == ["trained", "pushed", "rejected", "arrived", "arrived"]
    assert document["spans"][1] == {
        "span": 8,
        "version": 1,
        "state": "pushed",
        "examples": 6000,
        "drift_verdict": "pass",
        "candidate_auc": 0.71239,
        "champion_auc": None,
        "prequential": None,
        "pushed_version": 1,
        "seconds": 31.26,
        "run_id": "run-8",
        "reason": None,
        "updated_at": "2013-03-01T12:00:00Z",
    }


@pytest.mark.usefixtures("history")
def test_the_table_fits_80_columns_and_says_why(invoke: Invoke) -> None:
    lines = invoke().splitlines()
    assert max(map(len, lines[:8])) <= 80
    assert any(line.split() == ["8", "1", "pushed", "6,000", "pass", "0.7124", "1", "31.3"] for line in lines)
    rejected = ["9", "1", "rejected", "6,000", "warn", "0.7000", "0.7100", "0.6912", "12.0"]
    assert any(line.split() == rejected for line in lines)
    assert "Span 9 was rejected: AUC 0.70 is below the champion's 0.71 [change]." in lines
    assert "Span 10 failed and will be tried again: Data error: Split-eval is missing." in lines
    assert "champion: version 1, trained for span 8" in lines
    assert lines[-1].startswith("before training on each span: ")
    assert "0.691" in lines[-1]


def test_every_state_that_needs_a_word_gets_one(invoke: Invoke, history: History) -> None:
    history.arrive(ref(12), ref(13), ref(14), ref(15, 1), ref(15, 2))
    history.cycle(12, "blocked", reason="The label is missing.")
    history.ledger.move_span(ref(13), "quarantined", run_id="run-13", reason="3 attempts without progress.")
    history.ledger.move_span(ref(14), "skipped", reason="A newer one has come.")
    said = invoke()
    assert "Span 12 was blocked: The label is missing." in said
    assert "Span 13 was quarantined: 3 attempts without progress." in said
    assert "Span 14 was skipped: A newer one has come." in said
    assert "Span 15 was superseded: version 2 was there first" in said
    assert max(map(len, said.splitlines()[:14])) <= 80


def test_a_long_history_is_folded_with_what_became_of_it(invoke: Invoke, history: History) -> None:
    late = [ref(span) for span in range(100, 160)]
    history.arrive(*late)
    for each in late:
        history.ledger.move_span(each, "skipped", reason="Nothing was due.")
    history.arrive(*(ref(span) for span in range(200, 220)))
    lines = invoke().splitlines()
    rows = [line for line in lines if line.lstrip()[:1].isdigit()]
    folded = [line.split() for line in lines if "earlier" in line or " more " in line]
    assert sum("skipped" in row for row in rows[1:]) <= MAX_TOUCHED_ROWS + 1
    assert folded[0][:3] == ["…", "33", "earlier"]
    assert ["30", "skipped"] in [line.split() for line in lines]
    assert ["1", "pushed"] in [line.split() for line in lines]
    assert folded[1][:3] == ["…", "19", "more"]
    assert sum("was skipped" in line for line in lines) <= MAX_REASONS
    assert any("earlier reasons are not shown" in line for line in lines)
    assert len(json.loads(invoke("--json"))["spans"]) == 85


def test_a_rollback_is_told_with_what_it_rolled_back_from(invoke: Invoke, history: History) -> None:
    history.cycle(11, "pushed")
    history.ledger.promote(2, 1, by="rollback", reason="too many alarms")
    assert (
        "champion: version 1, trained for span 8, rolled back from version 2 at 2013-03-01 12:00:00 UTC: "
        "too many alarms"
    ) in invoke()
    champion = json.loads(invoke("--json"))["champion"]
    assert (champion["previous"], champion["moved_by"], champion["reason"]) == (2, "rollback", "too many alarms")


def test_a_running_cycle_is_told_with_its_worker(invoke: Invoke, history: History) -> None:
    history.ledger.acquire(ttl_seconds=60)
    history.ledger.start_run(RunStart(run_id="run-11", span=11, version=1, trigger="next", plan="{}"))
    history.ledger.start_attempt("run-11")
    lines = invoke().splitlines()
    assert "running: span 11 version 1, since 2013-03-01 12:00:00 UTC" in lines
    (worker,) = [line for line in lines if line.startswith("worker: ")]
    assert worker.endswith("last sign of life at 2013-03-01 12:00:00 UTC")
    history.ledger.start_attempt("run-11")
    history.ledger.release()
    assert (
        "interrupted: span 11 version 1, attempt 2 of 3 without progress, since 2013-03-01 12:00:00 UTC; "
        "the next `perennial run` finishes it"
    ) in invoke()
    document = json.loads(invoke("--json"))
    assert document["worker"] is None
    assert document["open_runs"] == [
        {
            "run_id": "run-11",
            "span": 11,
            "version": 1,
            "trigger": "next",
            "attempts": 2,
            "max_attempts": 3,
            "started_at": "2013-03-01T12:00:00Z",
        }
    ]


def test_requests_that_wait_and_the_last_cycle_are_told(invoke: Invoke, history: History, clock: ManualClock) -> None:
    clock.advance(60)
    for span in (None, 11, 11, 11, 11, 11):
        history.ledger.request_run(span, "cold" if span else None)
    said = invoke()
    assert "last cycle: span 10 version 1, failed at 2013-03-01 12:00:00 UTC" in said
    assert "asked for: the next span (request 1, 2013-03-01 12:01:00 UTC)" in said
    assert "asked for: span 11, cold (request 2, " in said
    assert "1 more requests wait." in said
    assert len(json.loads(invoke("--json"))["requests"]) == 6


@pytest.mark.usefixtures("history")
def test_an_overdue_span_is_something_to_look_into(invoke: Invoke) -> None:
    assert "look: " not in invoke()
    said = invoke("--set", "triggers.expected_every_seconds=604800")
    assert "look: Span 11 is the last that came; another was expected by 2013-03-08" in said


@pytest.mark.usefixtures("history")
def test_a_span_tells_every_step_it_made(invoke: Invoke) -> None:
    assert invoke("--span", "9").splitlines() == [
        "2013-03-01 12:00:00 UTC  version 1  arrived",
        "2013-03-01 12:00:00 UTC  version 1  arrived -> validated      by run run-9",
        "2013-03-01 12:00:00 UTC  version 1  validated -> trained      by run run-9",
        "2013-03-01 12:00:00 UTC  version 1  trained -> evaluated      by run run-9",
        "2013-03-01 12:00:00 UTC  version 1  evaluated -> rejected     by run run-9  "
        "AUC 0.70 is below the champion's 0.71 [change].",
    ]
    steps = json.loads(invoke("--span", "9", "--json"))
    assert (steps[0]["from_state"], steps[-1]["to_state"], steps[-1]["run_id"]) == (None, "rejected", "run-9")


@pytest.mark.usefixtures("history")
def test_an_unknown_span_is_named(invoke: Invoke) -> None:
    with pytest.raises(DataError, match=r"Span 99 is not in the ledger of 'flights'.*received span=99"):
        invoke("--span", "99")
