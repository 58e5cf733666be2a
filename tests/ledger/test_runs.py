"""Runs, their attempts and what they cost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import ManualClock
from core.errors import LedgerError
from ledger.ledger import Ledger
from schemas.ledger_records import RunRecord, RunStart
from schemas.spans import SpanRef

OpenLedger = Callable[..., Ledger]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def start(ledger: Ledger, run_id: str, span: int = 1, version: int = 1) -> RunRecord:
    plan = RunStart(
        run_id=run_id, span=span, version=version, trigger="next", plan="{}", config_digest="c" * 64, code_digest="d"
    )
    return ledger.start_run(plan)


def test_a_run_from_start_to_end(open_ledger: OpenLedger, clock: ManualClock) -> None:
    ledger = open_ledger()
    started = start(ledger, "run-1")
    assert ledger.run("run-1") == started
    clock.advance(90)
    ledger.finish_run("run-1", "pushed", decision_path="/runs/run-1/decision.json")
    assert ledger.run("run-1").model_dump(exclude=set(RunStart.model_fields)) == {
        "outcome": "pushed",
        "attempts": 0,
        "error": None,
        "started_at": NOON,
        "finished_at": NOON + timedelta(seconds=90),
        "decision_path": "/runs/run-1/decision.json",
    }
    assert ledger.run("run-1").config_digest == "c" * 64


def test_a_plan_may_be_long(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    plan = '"' + "ü" * 200_000 + '"'
    ledger.start_run(RunStart(run_id="run-1", span=1, version=1, trigger="next", plan=plan))
    assert ledger.run("run-1").plan == plan


def test_the_latest_run_of_a_span_is_the_one_that_started_last(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    for run_id, span, version in (("a", 1, 1), ("b", 1, 1), ("c", 1, 2), ("d", 2, 1)):
        start(ledger, run_id, span, version)
    latest = ledger.latest_run(SpanRef(span=1, version=1, digest=""))
    assert latest is not None
    assert latest.run_id == "b"
    assert ledger.latest_run(SpanRef(span=3, version=1, digest="")) is None
    assert [run.run_id for run in ledger.runs()] == ["a", "b", "c", "d"]
    assert [run.run_id for run in ledger.runs(limit=2)] == ["c", "d"]


def test_an_open_run_is_found_until_it_ends(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    assert ledger.open_run() is None
    for run_id in ("a", "b"):
        start(ledger, run_id)
    oldest = ledger.open_run()
    assert oldest is not None
    assert oldest.run_id == "a"
    ledger.finish_run("a", "abandoned")
    ledger.finish_run("b", "failed", error="Data error: no file")
    assert ledger.open_run() is None
    reopened = ledger.reopen_run("b")
    assert ledger.open_run() == reopened
    assert (reopened.outcome, reopened.error, reopened.finished_at) == (None, None, None)
    assert ledger.reopen_run("b") == reopened
    with pytest.raises(LedgerError, match=r"Run 'a' cannot be resumed. Expected outcome='failed'; .*'abandoned'"):
        ledger.reopen_run("a")


def test_attempts_count_from_the_last_finished_node(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    start(ledger, "run-1")
    assert [ledger.start_attempt("run-1") for _ in range(3)] == [1, 2, 3]
    ledger.give_back_attempt("run-1")
    assert ledger.run("run-1").attempts == 2
    ledger.node_finished("run-1")
    ledger.give_back_attempt("run-1")
    assert ledger.run("run-1").attempts == 0
    assert ledger.start_attempt("run-1") == 1


def test_a_decision_is_kept_in_place_of_the_one_before(open_ledger: OpenLedger) -> None:
    ledger, other = open_ledger(), open_ledger("risk")
    for run_id in ("run-1", "run-2"):
        start(ledger, run_id)
    start(other, "run-1")
    assert ledger.decision("run-1") is None
    long = '"' + "ü" * 200_000 + '"'
    for document in ("{}", long, long):
        ledger.keep_decision("run-1", document)
    assert ledger.decision("run-1") == long
    assert ledger.decision("run-2") is None
    assert other.decision("run-1") is None


def test_a_decision_is_kept_with_the_rest_of_the_fence_or_not_at_all(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    start(ledger, "run-1")

    def break_off() -> None:
        with ledger.fenced():
            ledger.keep_decision("run-1", "{}")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        break_off()
    assert ledger.decision("run-1") is None


def test_time_that_runs_took_since_a_moment(open_ledger: OpenLedger, clock: ManualClock) -> None:
    ledger = open_ledger()
    assert ledger.last_run_finished_at() is None
    for run_id in ("a", "b"):
        start(ledger, run_id)
        clock.advance(100.5)
        ledger.finish_run(run_id, "pushed")
    ended = clock.now()
    clock.advance(50)
    start(ledger, "c")
    clock.advance(7)
    assert ledger.last_run_finished_at() == ended
    assert ledger.run_seconds_since(NOON - timedelta(days=1)) == 208.0
    assert ledger.run_seconds_since(NOON + timedelta(seconds=100)) == 108.0
    assert ledger.run_seconds_since(clock.now()) == 0.0


def test_a_clock_that_was_set_back_gives_no_budget_back(open_ledger: OpenLedger, clock: ManualClock) -> None:
    ledger = open_ledger()
    start(ledger, "a")
    clock.jump(-3600)
    ledger.finish_run("a", "pushed")
    assert ledger.run_seconds_since(NOON - timedelta(days=1)) == 0.0


def test_unknown_runs_are_refused(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    with pytest.raises(LedgerError, match="Run 'run-1' was never started"):
        ledger.finish_run("run-1", "failed", error="Data error: no file")
    with pytest.raises(LedgerError, match="Run 'run-1' was never started"):
        ledger.start_attempt("run-1")
    with pytest.raises(LedgerError, match="Run 'run-1' was never started"):
        ledger.keep_decision("run-1", "{}")
    start(ledger, "run-1")
    with pytest.raises(LedgerError, match="Run 'run-1' was started before"):
        start(ledger, "run-1")
