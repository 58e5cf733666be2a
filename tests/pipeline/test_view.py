"""The view is small and complete however long the history is."""

from datetime import UTC, datetime, timedelta

import pytest

from core.clock import ManualClock
from ledger.ledger import Ledger
from pipeline.arrivals import Findings
from pipeline.config import load_config
from pipeline.ticks import MAX_FINISHED, MAX_WAITING, Running
from pipeline.view import LOOKED_AT, ProcessState, read_view
from schemas.ledger_records import RunStart, SpanArrival
from schemas.spans import SpanRef

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


def _ref(span, version=1):
    return SpanRef(span=span, version=version, digest=f"{span}-{version}")


class History:
    """A ledger that a test fills, and the view of it."""

    def __init__(self, config, ledger):
        self.config = config
        self.ledger = ledger

    def arrive(self, *spans, version=1):
        self.ledger.register_spans([SpanArrival(ref=_ref(span, version), num_examples=1) for span in spans])

    def skip(self, *spans):
        for span in spans:
            self.ledger.move_span(_ref(span), "skipped", reason="a test")

    def view(self, **state):
        findings = Findings(unusable={9: "It is broken."})
        return read_view(self.ledger, self.config, findings, ProcessState(now=NOW, **state))


@pytest.fixture
def history(write_config, tmp_path):
    config = load_config(write_config(root=str(tmp_path / "root")))
    with Ledger.open(config.ledger_url, config.name, clock=ManualClock(NOW)) as ledger:
        yield History(config, ledger)


def _spans(records):
    return [record.span for record in records]


def test_an_empty_ledger_is_an_empty_view(history):
    view = history.view(is_first_look=True)
    assert (view.waiting, view.finished, view.newest_span, view.looked_at) == ((), (), None, None)
    assert (view.cold_spans, view.has_just_started, view.metric) == (history.config.window.cold_spans, True, "auc")
    assert view.unusable == {9: "It is broken."}


def test_spans_are_where_they_belong(history):
    history.arrive(1, 2, 3, 5, 8)
    history.skip(1, 3)
    view = history.view()
    assert (_spans(view.waiting), _spans(view.finished)) == ([2, 5, 8], [3, 1])
    assert view.predecessors == {2: 1, 5: 3, 8: 5}
    assert (view.newest_span, view.newest_arrived_at) == (8, NOW)


def test_what_runs_or_is_deferred_does_not_wait(history):
    history.arrive(1, 2, 3)
    running = Running(run_id="r", span=_ref(1), policy="p", action="train", started_at=NOW)
    view = history.view(running=running, deferred=frozenset({_ref(3)}))
    assert (_spans(view.waiting), view.running) == ([2], running)


def test_a_corrected_version_waits_alone(history):
    history.arrive(1, 2)
    history.arrive(1, version=2)
    assert [(record.span, record.version) for record in history.view().waiting] == [(1, 2), (2, 1)]


def test_a_long_backlog_is_cut_but_for_the_newest(history):
    history.arrive(*range(1, MAX_WAITING + 400))
    history.skip(1, 2)
    view = history.view()
    assert _spans(view.waiting) == [*range(3, MAX_WAITING + 3), MAX_WAITING + 399]
    assert _spans(view.finished) == [2, 1]


def test_a_long_history_is_cut(history):
    history.arrive(*range(MAX_FINISHED + 50))
    history.skip(*range(MAX_FINISHED + 49))
    view = history.view()
    assert _spans(view.finished) == [*range(MAX_FINISHED + 48, 48, -1)]
    assert _spans(view.waiting) == [MAX_FINISHED + 49]


def test_requests_come_with_what_they_name(history):
    history.arrive(1, 2)
    history.arrive(1, version=2)
    history.ledger.request_run(1)
    history.ledger.request_run(7)
    history.ledger.request_run()
    view = history.view()
    assert [request.span for request in view.requests] == [1, 7, None]
    assert [(record.span, record.version) for record in view.requested.values()] == [(1, 2)]


def test_the_last_look_is_no_policy(history):
    history.ledger.set_fired(LOOKED_AT, NOW)
    history.ledger.set_fired("nightly", NOW - timedelta(hours=1))
    view = history.view()
    assert (view.looked_at, view.fired) == (NOW, {"nightly": NOW - timedelta(hours=1)})


def test_seconds_count_from_midnight(history):
    history.arrive(1)
    history.ledger.start_run(RunStart(run_id="r", span=1, version=1, trigger="t", plan="{}"))
    assert history.view().compute_seconds_today == 0
    history.ledger._clock.advance(90)
    history.ledger.finish_run("r", "failed")
    view = history.view()
    assert (view.compute_seconds_today, view.last_run_finished_at) == (90, NOW + timedelta(seconds=90))
