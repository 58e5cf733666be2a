"""The rows that a plan rests on, and that they are found by index."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event

from core.clock import ManualClock
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, RunStart, SpanArrival, SpanRecord
from schemas.spans import SpanRef

OpenLedger = Callable[..., Ledger]
MakeRef = Callable[..., SpanRef]
Arrive = Callable[..., SpanArrival]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def names(records: list[SpanRecord]) -> list[tuple[int, int]]:
    return [(record.span, record.version) for record in records]


def test_open_spans_are_the_oldest_without_a_cycle(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in (5, 3, 1, 2)])
    ledger.move_span(make_ref(2), "blocked")
    ledger.register_spans([arrive(2, 2)])
    assert names(ledger.open_spans(3)) == [(1, 1), (2, 2), (3, 1)]
    assert ledger.open_spans(0) == []


def test_corrections_of_spans_that_were_passed_are_found(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 7)])
    ledger.move_span(make_ref(3), "trained", run_id="run-1")
    ledger.register_spans([arrive(4, 2), arrive(3, 2), arrive(6, 2)])
    assert names(ledger.open_corrections(last=5, limit=9)) == [(3, 2), (4, 2)]
    assert names(ledger.open_corrections(last=5, limit=1)) == [(3, 2)]


def test_of_each_span_the_newest_version_counts(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 6)])
    ledger.move_span(make_ref(3), "trained", run_id="run-1")
    ledger.register_spans([arrive(3, 3), arrive(3, 2), arrive(4, digest="other")])
    assert names(ledger.newest_spans(before=5, limit=3)) == [(4, 1), (3, 3), (2, 1)]
    assert ledger.newest_spans(before=5, limit=1)[0].digest == "other"
    assert ledger.newest_spans(before=1, limit=3) == []


def test_statistics_of_a_blocked_span_are_no_reference(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 5)])
    assert ledger.newest_statistics(before=9) is None
    ledger.move_span(make_ref(1), "validated", statistics_uri="/statistics/1")
    ledger.move_span(make_ref(3), "blocked", statistics_uri="/statistics/3")
    newest = ledger.newest_statistics(before=9)
    assert newest is not None
    assert newest.statistics_uri == "/statistics/1"
    assert ledger.newest_statistics(before=1) is None


def test_the_replay_buffer_is_the_one_written_last(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive, clock: ManualClock
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 5)])
    assert ledger.newest_replay() is None
    for span in (4, 2):
        clock.advance(0.001)
        ledger.move_span(make_ref(span), "trained", run_id=f"run-{span}", replay_uri=f"/replay/{span}")
    clock.advance(0.001)
    ledger.move_span(make_ref(3), "blocked")
    newest = ledger.newest_replay()
    assert newest is not None
    assert newest.replay_uri == "/replay/2"


def test_scores_between_two_spans(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 8)])
    for span in (1, 2, 3, 5, 6):
        ledger.move_span(make_ref(span), "validated", prequential={"auc": span / 10})
    assert names(ledger.scored_spans(after=1, before=6, limit=2)) == [(5, 1), (3, 1)]
    assert ledger.scored_spans(after=1, before=6, limit=9)[-1].prequential == {"auc": 0.2}


def test_the_last_full_training_was_a_cold_start_or_a_shadow_model(
    open_ledger: OpenLedger, make_model: Callable[..., ModelRecord]
) -> None:
    ledger = open_ledger()
    assert ledger.last_full_training_span() is None
    for span, base in ((8, None), (9, 1)):
        version = ledger.reserve_version()
        ledger.record_model(make_model(version, span=span, base_version=base))
    assert ledger.last_full_training_span() == 8
    for span, trigger in ((10, "shadow"), (11, "next")):
        ledger.start_run(RunStart(run_id=f"run-{span}", span=span, version=1, trigger=trigger, plan="{}"))
    assert ledger.last_full_training_span() == 10


QUESTIONS: dict[str, Callable[[Ledger], Any]] = {
    "open_spans": lambda ledger: ledger.open_spans(2),
    "open_corrections": lambda ledger: ledger.open_corrections(last=9000, limit=2),
    "newest_spans": lambda ledger: ledger.newest_spans(before=9000, limit=2),
    "newest_statistics": lambda ledger: ledger.newest_statistics(before=9000),
    "newest_replay": lambda ledger: ledger.newest_replay(),
    "scored_spans": lambda ledger: ledger.scored_spans(after=0, before=9000, limit=2),
    "last_full_training_span": lambda ledger: ledger.last_full_training_span(),
    "open_run": lambda ledger: ledger.open_run(),
    "runs": lambda ledger: ledger.runs(limit=2),
    "last_run_finished_at": lambda ledger: ledger.last_run_finished_at(),
    "run_seconds_since": lambda ledger: ledger.run_seconds_since(NOON),
    "transitions": lambda ledger: ledger.transitions(5),
    "waiting_requests": lambda ledger: ledger.waiting_requests(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_walks_through_a_table(sqlite_url: str, question: str) -> None:
    statements: list[tuple[str, Any]] = []
    with Ledger.open(sqlite_url, "flights") as ledger:
        engine = ledger._database._engine
        event.listen(engine, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        QUESTIONS[question](ledger)
        with engine.connect() as connection:
            for statement, values in [pair for pair in statements if pair[0].startswith("SELECT")]:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                steps = [row[-1] for row in plan]
                assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step], steps
