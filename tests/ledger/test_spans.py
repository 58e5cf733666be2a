"""Which spans have arrived, and the steps that each may take."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from core.clock import ManualClock
from core.errors import LedgerError
from ledger.ledger import Ledger
from schemas.ledger_records import RunStart, SpanArrival, SpanOutcome, SpanState, Transition
from schemas.spans import SpanRef

OpenLedger = Callable[..., Ledger]
MakeRef = Callable[..., SpanRef]
Arrive = Callable[..., SpanArrival]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
CYCLE: tuple[SpanState, ...] = ("validated", "trained", "evaluated")


def run_of(ref: SpanRef, run_id: str = "run-1") -> RunStart:
    return RunStart(run_id=run_id, span=ref.span, version=ref.version, trigger="manual", plan='{"why": []}')


def through(ledger: Ledger, ref: SpanRef, *states: SpanState, run_id: str = "run-1") -> None:
    for state in states:
        ledger.move_span(ref, state, run_id=run_id)


def test_registering_twice_keeps_what_is_known(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    assert ledger.register_spans([arrive(1), arrive(2, num_examples=20)]) == 2
    through(ledger, make_ref(1), *CYCLE, "pushed")
    assert ledger.register_spans([arrive(1), arrive(2, num_examples=21), arrive(3)]) == 1
    assert ledger.register_spans([]) == 0
    assert [(r.span, r.state, r.num_examples) for r in ledger.spans()] == [
        (1, "pushed", 10),
        (2, "arrived", 20),
        (3, "arrived", 10),
    ]


def test_an_arrival_keeps_its_times(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    complete, newest = NOON.replace(microsecond=123456), NOON.replace(hour=3)
    ledger.register_spans([arrive(1, label_complete_time=complete, event_time_max=newest)])
    record = ledger.span(make_ref(1))
    assert (record.label_complete_time, record.event_time_max) == (complete, newest)
    assert record.arrived_at == record.updated_at == NOON


def test_ten_thousand_spans_arrive_at_once(open_ledger: OpenLedger, arrive: Arrive) -> None:
    ledger = open_ledger()
    arrivals = [arrive(span, version) for span in range(5000) for version in (1, 2)]
    assert ledger.register_spans(arrivals) == 10_000
    assert ledger.register_spans(arrivals) == 0
    assert [(r.span, r.version) for r in ledger.open_spans(3)] == [(0, 2), (1, 2), (2, 2)]


def test_a_correction_takes_the_place_of_an_open_version(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1), arrive(2), arrive(3)])
    through(ledger, make_ref(2), "quarantined")
    ledger.register_spans([arrive(1, 2), arrive(2, 2), arrive(1, 3)])
    assert [(r.span, r.version, r.state, r.reason) for r in ledger.spans()] == [
        (1, 1, "superseded", "version 3 has arrived"),
        (1, 2, "superseded", "version 3 was there first"),
        (1, 3, "arrived", None),
        (2, 1, "superseded", "version 2 has arrived"),
        (2, 2, "arrived", None),
        (3, 1, "arrived", None),
    ]
    assert ledger.transitions(2)[-1] == Transition(
        span=2,
        version=1,
        digest=make_ref(2).digest,
        from_state="quarantined",
        to_state="superseded",
        run_id="run-1",
        reason="version 2 has arrived",
        at=NOON,
    )


@pytest.mark.parametrize("state", ["pushed", "trained", "blocked", "skipped"])
def test_a_correction_leaves_what_a_finished_version_is(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive, state: SpanState
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    through(ledger, make_ref(1), *(CYCLE if state == "pushed" else ()), state)
    ledger.register_spans([arrive(1, 2)])
    assert [r.state for r in ledger.versions_of(1)] == [state, "arrived"]


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_correction_takes_the_place_of_what_a_run_works_on(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive, num_steps: int
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    ledger.start_run(run_of(make_ref(1)))
    through(ledger, make_ref(1), *CYCLE[:num_steps])
    ledger.register_spans([arrive(1, 2)])
    assert [r.state for r in ledger.versions_of(1)] == ["superseded", "arrived"]


def test_an_older_version_that_comes_late_is_superseded(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1, 2)])
    through(ledger, make_ref(1, 2), *CYCLE, "pushed")
    ledger.register_spans([arrive(1, 1)])
    assert [(r.state, r.reason) for r in ledger.versions_of(1)] == [
        ("superseded", "version 2 was there first"),
        ("pushed", None),
    ]
    assert [step.to_state for step in ledger.transitions(1)][-1] == "superseded"


def test_of_the_same_version_the_content_that_came_last_counts(open_ledger: OpenLedger, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1, digest="b")])
    ledger.register_spans([arrive(1, digest="a")])
    assert [(r.digest, r.state) for r in ledger.spans()] == [("b", "superseded"), ("a", "arrived")]


def test_every_step_is_kept(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive, clock: ManualClock) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1), arrive(2)])
    ledger.acquire(ttl_seconds=60)
    clock.advance(5)
    ledger.move_span(make_ref(1), "validated", run_id="run-1")
    ledger.move_span(make_ref(1), "skipped", run_id="run-1", reason="stable", seconds=1.5)
    steps = [(step.from_state, step.to_state, step.run_id, step.reason, step.token) for step in ledger.transitions(1)]
    assert steps == [
        (None, "arrived", None, None, None),
        ("arrived", "validated", "run-1", None, 1),
        ("validated", "skipped", "run-1", "stable", 1),
    ]
    assert [step.at for step in ledger.transitions(1)] == [NOON, clock.now(), clock.now()]
    record = ledger.span(make_ref(1))
    assert (record.reason, record.seconds, record.updated_at) == ("stable", 1.5, clock.now())


def test_a_step_sets_only_what_it_is_given(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    ledger.move_span(make_ref(1), "validated", run_id="run-1", statistics_uri="/statistics/1")
    moved = ledger.move_span(make_ref(1), "trained", run_id="run-1", replay_uri="/replay/1")
    assert (moved.statistics_uri, moved.replay_uri) == ("/statistics/1", "/replay/1")
    with pytest.raises(ValueError, match="no_such_field"):
        ledger.move_span(make_ref(1), "evaluated", run_id="run-1", no_such_field=1)


def test_a_run_may_repeat_its_step(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    through(ledger, make_ref(1), *CYCLE)
    ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1"))
    assert ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1", seconds=1.0)).seconds == 1.0
    assert len(ledger.transitions(1)) == 5
    with pytest.raises(
        LedgerError,
        match=r"Span 1 version 1 is already pushed, made so by run 'run-1'. Expected a move to no other state; "
        r"received state='rejected' from run_id='run-2'",
    ):
        ledger.finish_span(make_ref(1), SpanOutcome(state="rejected", run_id="run-2"))
    assert ledger.span(make_ref(1)).state == "pushed"


def test_no_run_is_not_the_same_run(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    ledger.finish_span(make_ref(1), SpanOutcome(state="blocked"))
    with pytest.raises(LedgerError, match=r"already blocked.*Expected a move to arrived"):
        ledger.finish_span(make_ref(1), SpanOutcome(state="blocked"))


def test_a_span_is_not_pushed_without_a_cycle(open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    with pytest.raises(LedgerError, match=r"already arrived.*received state='pushed'"):
        ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1"))
    with pytest.raises(LedgerError, match=r"Span 2 version 1 .* is not in the ledger of 'flights'"):
        ledger.move_span(make_ref(2), "validated")


def test_a_cycle_that_is_given_up_puts_its_span_back(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1)])
    through(ledger, make_ref(1), "validated", "trained")
    ledger.move_span(make_ref(1), "arrived", run_id="run-1", reason="the config has changed")
    through(ledger, make_ref(1), *CYCLE, "rejected", run_id="run-2")
    assert [r.span for r in ledger.open_spans(5)] == []


def test_a_version_that_is_put_back_after_its_correction_is_superseded(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(1), arrive(2)])
    through(ledger, make_ref(1), "validated", "trained")
    through(ledger, make_ref(2), "blocked")
    # No run of span 1 is open, so what it trained may have been kept.
    ledger.register_spans([arrive(1, 2), arrive(2, 2)])
    for _ in range(2):
        put_back = ledger.move_span(make_ref(1), "arrived", run_id="run-1", reason="the config has changed")
        assert (put_back.state, put_back.reason) == ("superseded", "version 2 has arrived")
    with pytest.raises(LedgerError, match="Span 2 version 1 is already blocked"):
        ledger.move_span(make_ref(2), "arrived")
    assert [r.version for r in ledger.open_spans(5)] == [2, 2]


def test_a_window_marks_what_no_model_has_learned_from(
    open_ledger: OpenLedger, make_ref: MakeRef, arrive: Arrive
) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(1, 6)])
    through(ledger, make_ref(2), *CYCLE, "rejected")
    through(ledger, make_ref(3), *CYCLE, "pushed")
    window = [make_ref(span) for span in range(1, 5)]
    assert ledger.finish_history(window, run_id="run-2", reason="in the window of span 5") == 3
    assert ledger.finish_history(window, run_id="run-2", reason="in the window of span 5") == 0
    assert ledger.finish_history([], run_id="run-2", reason="in the window of span 5") == 0
    assert [(r.state, r.run_id) for r in ledger.spans()] == [
        ("trained", "run-2"),
        ("trained", "run-2"),
        ("pushed", "run-1"),
        ("trained", "run-2"),
        ("arrived", None),
    ]
    assert ledger.transitions(2)[-1].from_state == "rejected"


def test_a_range_of_spans(open_ledger: OpenLedger, arrive: Arrive) -> None:
    ledger = open_ledger()
    ledger.register_spans([arrive(span) for span in range(6)])
    assert [r.span for r in ledger.spans(2, 4)] == [2, 3, 4]
    assert [r.span for r in ledger.spans(4)] == [4, 5]
    assert [r.span for r in ledger.spans(last=0)] == [0]
