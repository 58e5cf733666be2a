"""The daemon works days in milliseconds: real triggers, ledger and controller, a fake DAG, and a clock that jumps."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from core.clock import ManualClock
from core.errors import ConfigError, LeaseHeldError, LedgerError, NodeError, StoppedError, UnavailableError
from ledger.ledger import Ledger
from pipeline.controller import Controller
from pipeline.daemon import Daemon
from pipeline.logs import LOGGER_NAME
from pipeline.term import Seams
from pipeline.ticks import Tick

PATIENCE_SECONDS = 30  # of the test itself, where two threads take turns


class Turns(ManualClock):
    """A clock on which waiting lets the other thread, if there is one, run to its next node, and calls hooks by time.

    Main thread and cycle never run at the same time, so every test goes the same way each time.
    """

    def __init__(self, start):
        super().__init__(start)
        self.begun = self.monotonic()
        self.hooks = []
        self.is_beside = False
        self._main = threading.Semaphore(0)
        self._cycle = threading.Semaphore(0)

    def at(self, seconds, call):
        """Call `call` in the first wait that ends so many seconds after the start."""
        self.hooks.append((seconds, call))

    def wait(self, event, seconds):
        if threading.current_thread().name == "cycle":
            return super().wait(event, seconds)
        if self.is_beside:
            self._cycle.release()
            assert self._main.acquire(timeout=PATIENCE_SECONDS)
        super().wait(event, seconds)
        for hook in [hook for hook in self.hooks if hook[0] <= self.monotonic()]:
            self.hooks.remove(hook)
            hook[1]()
        return event.is_set()

    def spawn(self, work):
        """Run `work` in a thread that moves only while the main thread waits."""

        def whole():
            assert self._cycle.acquire(timeout=PATIENCE_SECONDS)
            work()
            self.is_beside = False
            self._main.release()

        self.is_beside = True
        threading.Thread(target=whole, name="cycle", daemon=True).start()

    def node_boundary(self, plan, node):
        """Hand over to the main thread; a fake DAG's `before`."""
        if self.is_beside:
            self._main.release()
            assert self._cycle.acquire(timeout=PATIENCE_SECONDS)


class Killed(BaseException):
    """Stands for the death of the process: nothing but `finally` runs after it."""


class Watched:
    """A daemon on the small pipeline, and what it takes to look at it."""

    def __init__(self, small, **changes):
        self.small = small
        self.config = small.config.model_copy(update=changes)
        self.clock = Turns(small.clock.now())
        self.opened = 0
        self.seams = Seams(self.runner_of, self.open_ledger, self.clock, spawn=lambda work: work())
        self.daemon = None

    def runner_of(self, ledger, listeners):
        return Controller(self.config, ledger, dag=self.small.dag, listeners=listeners, clock=self.clock)

    def open_ledger(self):
        self.opened += 1
        return Ledger.open(self.config.ledger_url, self.config.name, clock=self.clock)

    def make(self, *, grace_seconds=600.0, **seams):
        fields = {**self.seams.__dict__, **seams}
        self.daemon = Daemon(self.config, Seams(**fields), grace_seconds=grace_seconds)
        return self.daemon

    def run_for(self, **time):
        """Run the daemon for so long, then stop it."""
        daemon = self.daemon or self.make()
        self.clock.at(self.clock.monotonic() + timedelta(**time).total_seconds(), daemon.stop)
        daemon.run()
        return daemon

    def use_turns(self):
        """Let a cycle move node by node, whenever the daemon waits."""
        self.seams = Seams(**{**self.seams.__dict__, "spawn": self.clock.spawn})
        self.small.dag.before = self.clock.node_boundary

    @property
    def status(self):
        return self.daemon.board.status

    def states(self):
        return self.small.states()

    def trained_spans(self):
        runs = {run.run_id: run.span for run in self.small.ledger.runs()}
        return [runs[run_id] for run_id in self.small.dag.trained()]


@pytest.fixture
def watched(small) -> Iterator[Callable[..., Watched]]:
    def make(**options):
        # Every look costs a few milliseconds of the test.
        options = {"poll_seconds": 7200.0, **options}
        triggers = small.config.triggers.model_copy(update=options)
        return Watched(small, triggers=triggers)

    return make


@pytest.fixture
def events(caplog) -> Callable[[], list[str]]:
    """The events that were logged."""
    caplog.set_level(logging.INFO, LOGGER_NAME)
    return lambda: [record.event for record in caplog.records if record.name == LOGGER_NAME]


def test_spans_are_run_as_they_come_and_each_once(watched, events):
    pipeline = watched()
    pipeline.clock.at(86400, lambda: pipeline.small.add_span(5))
    pipeline.clock.at(2 * 86400, lambda: pipeline.small.add_span(6))
    pipeline.run_for(days=3)
    assert pipeline.states() == {1: "trained", **dict.fromkeys(range(2, 7), "pushed")}
    assert pipeline.trained_spans() == [2, 3, 4, 5, 6]
    assert events().count("cycle_ended") == 5
    assert pipeline.small.ledger.lease().holder is None


def test_cycles_keep_the_minimum_interval(watched):
    pipeline = watched(min_interval_seconds=3600.0)
    pipeline.run_for(days=1)
    starts = [run.started_at for run in pipeline.small.ledger.runs()]
    assert len(starts) == 3
    assert all(later - earlier >= timedelta(hours=1) for earlier, later in pairwise(starts))


def test_once_runs_all_that_is_due_and_returns(watched):
    pipeline = watched(min_interval_seconds=3600.0)
    begun = pipeline.clock.now()
    pipeline.make().run_once()
    assert pipeline.trained_spans() == [2, 3, 4]
    assert pipeline.clock.now() - begun < timedelta(hours=1)
    pipeline.make().run_once()
    assert pipeline.trained_spans() == [2, 3, 4]


def test_what_came_between_two_jobs_is_no_absence(watched):
    pipeline = watched(catch_up="none")
    pipeline.make().run_once()
    pipeline.clock.advance(86400)
    pipeline.small.add_span(5)
    pipeline.make().run_once()
    assert pipeline.trained_spans() == [2, 3, 4, 5]


def test_once_raises_the_failure_of_a_cycle(watched):
    pipeline = watched()

    def fail(plan, node):
        raise NodeError("no")

    pipeline.small.dag.before = fail
    with pytest.raises(NodeError, match="no"):
        pipeline.make().run_once()
    assert pipeline.states()[2] == "arrived"


def test_what_a_dead_worker_left_is_finished_first(watched, events):
    pipeline = watched()
    dag = pipeline.small.dag

    def die(plan, node):
        if node == "Gate":
            raise Killed

    dag.before = die
    with pytest.raises(Killed):
        pipeline.small.controller().run_next()
    (run,) = pipeline.small.ledger.runs()
    dag.before = lambda plan, node: None
    pipeline.run_for(minutes=1)
    assert pipeline.small.ledger.run(run.run_id).outcome == "pushed"
    assert dag.trained().count(run.run_id) == 1
    assert events()[:3] == ["lease_taken", "resuming", "cycle_ended"]


def test_a_run_of_other_code_is_given_up_and_said(watched, caplog):
    caplog.set_level(logging.INFO, LOGGER_NAME)
    pipeline = watched()
    dag = pipeline.small.dag

    def stop(plan, node):
        pipeline.daemon.stop()
        raise StoppedError("Asked to.")

    dag.before = stop
    pipeline.make().run()
    dag.before, dag.code_digest = lambda plan, node: None, "other code"
    pipeline.make().run_once()
    assert "A run that was left open was abandoned: The code has changed since the run began." in caplog.messages
    assert pipeline.trained_spans() == [2, 3, 4]


def test_what_may_pass_is_tried_again_ever_more_seldom(watched, events):
    pipeline = watched(min_interval_seconds=0.0)
    pipeline.config = pipeline.config.model_copy(
        update={"retries": pipeline.config.retries.model_copy(update={"max_attempts": 1, "backoff_seconds": 10.0})}
    )
    fails_at = []

    def fail(plan, node):
        if len(fails_at) < 4:
            fails_at.append(pipeline.clock.monotonic())
            assert pipeline.daemon.board.status.is_ready == (len(fails_at) == 1)
            raise UnavailableError("The disk is full.")

    pipeline.small.dag.before = fail
    pipeline.run_for(days=1)
    assert [round(b - a) for a, b in pairwise(fails_at)] == [10, 20, 40]
    assert pipeline.trained_spans() == [2, 3, 4]
    assert max(run.attempts for run in pipeline.small.ledger.runs()) == 1


def test_a_poisoned_span_is_quarantined_and_the_next_goes_on(watched, events):
    pipeline = watched(min_interval_seconds=0.0)

    def fail(plan, node):
        if plan.span.span == 3 and node == "Trainer":
            raise NodeError("it explodes")

    pipeline.small.dag.before = fail
    daemon = pipeline.run_for(days=1)
    assert pipeline.states() == {1: "trained", 2: "pushed", 3: "quarantined", 4: "pushed"}
    assert events().count("cycle_failed") == pipeline.config.retries.max_attempts
    assert daemon.board.status.problem is None


def test_an_error_of_the_config_is_said_and_tried_again(watched, events):
    pipeline = watched(min_interval_seconds=0.0)
    seen = []

    def fail(plan, node):
        if len(seen) < 3:
            seen.append(pipeline.status)
            raise ConfigError("The schema is not there.")

    pipeline.small.dag.before = fail
    daemon = pipeline.run_for(days=1)
    assert [status.problem for status in seen] == [None, *["Config error: The schema is not there."] * 2]
    assert events().count("backing_off") == 3
    assert pipeline.trained_spans() == [2, 3, 4]
    assert daemon.board.status.last_cycle.outcome == "pushed"


def test_a_bug_does_not_end_the_daemon(watched, caplog):
    pipeline = watched()
    calls = []

    def decide(options, view, now):
        calls.append(now)
        if len(calls) == 1:
            raise ZeroDivisionError("by nothing")
        return Tick(waits_for="nothing")

    pipeline.make(decide=decide)
    pipeline.run_for(hours=1)
    assert len(calls) > 1
    (record,) = [record for record in caplog.records if getattr(record, "event", "") == "backing_off"]
    assert record.getMessage().startswith("ZeroDivisionError: by nothing Trying again in")
    assert record.exc_info is not None


def test_a_busy_pipeline_answers_and_stops_at_a_node_boundary(watched):
    pipeline = watched()
    pipeline.use_turns()
    seen = []
    dag = pipeline.small.dag

    def before(plan, node):
        seen.append((node, pipeline.status.state, pipeline.status.node))
        if node == "ReplayGen":
            pipeline.daemon.stop()
        pipeline.clock.node_boundary(plan, node)
        if node == "ReplayGen":
            assert pipeline.status.state == "stopping"
            assert pipeline.status.running.is_stopping

    dag.before = before
    daemon = pipeline.make()
    daemon.run()
    assert seen[2] == ("DriftGate", "running", "DriftGate")
    assert [node for node, *_ in seen] == ["ExampleGen", "StatisticsGen", "DriftGate", "ReplayGen"]
    assert not daemon.has_left_work
    assert pipeline.small.ledger.lease().holder is None
    # The next worker goes on where this one stopped.
    dag.before = lambda plan, node: None
    pipeline.make().run_once()
    assert len(set(dag.finished)) == len(dag.finished)
    assert pipeline.states()[2] == "pushed"


@pytest.mark.parametrize("signals", [1, 2], ids=["grace is over", "second signal"])
def test_a_hung_node_is_left_behind(watched, signals):
    pipeline = watched(poll_seconds=30.0)
    daemon = pipeline.make(spawn=lambda work: None, grace_seconds=200.0)
    for number in range(signals):
        pipeline.clock.at(100.0 * (number + 1), daemon.stop)
    daemon.run()
    assert daemon.has_left_work
    left_after = pipeline.clock.monotonic()
    assert 300 <= left_after < 360 if signals == 1 else 200 <= left_after < 240
    assert pipeline.small.ledger.lease().holder is None


def test_a_newer_span_takes_the_place_of_a_running_one(watched, events):
    pipeline = watched(overlap="replace", min_interval_seconds=0.0, poll_seconds=30.0)
    pipeline.make().run_once()
    pipeline.use_turns()
    small = pipeline.small
    small.add_span(5)

    def before(plan, node):
        if plan.span.span == 5 and node == "ReplayGen":
            small.add_span(6)
        pipeline.clock.node_boundary(plan, node)

    small.dag.before = before
    pipeline.make()
    pipeline.run_for(minutes=15)
    assert pipeline.states() | {1: "trained"} == {
        1: "trained", 2: "pushed", 3: "pushed", 4: "pushed", 5: "skipped", 6: "pushed",
    }  # fmt: skip
    assert "cycle_replaced" in events()
    given_up = [run for run in small.ledger.runs() if run.outcome == "abandoned"]
    assert [run.span for run in given_up] == [5]
    assert small.dag.given_up == [given_up[0].run_id]
    assert small.ledger.open_run() is None
    assert small.ledger.transitions(5)[-1].reason


def test_a_request_is_taken_once(watched):
    pipeline = watched()
    small = pipeline.small

    def fail(plan, node):
        if plan.span.span == 4:
            raise NodeError("it explodes")

    small.dag.before = fail
    pipeline.run_for(days=1)
    assert pipeline.states()[4] == "quarantined"
    small.dag.before = lambda plan, node: None
    small.ledger.request_run(4, "cold")
    pipeline.make().run_once()
    assert small.ledger.waiting_requests() == []
    assert pipeline.states()[4] == "pushed"
    run = small.ledger.runs()[-1]
    assert (run.trigger, '"initialisation":"cold"' in run.plan) == ("manual", True)


def test_a_request_that_makes_no_sense_is_refused_and_gone(watched, caplog):
    caplog.set_level(logging.INFO, LOGGER_NAME)
    pipeline = watched()
    pipeline.small.ledger.request_run(77)
    pipeline.make().run_once()
    assert "Span 77 has not come. Ask again when it has." in caplog.messages
    assert pipeline.small.ledger.waiting_requests() == []


def test_another_worker_is_waited_for(watched, events):
    pipeline = watched()
    first, second = pipeline.open_ledger(), pipeline.open_ledger
    with first:
        first.acquire(ttl_seconds=60)

        def beat_and_go():
            first.beat()
            if pipeline.clock.monotonic() > 600:
                assert pipeline.status.state in ("starting", "standby")
                assert not pipeline.status.is_ready
                first.release()
            else:
                pipeline.clock.at(pipeline.clock.monotonic() + 1, beat_and_go)

        pipeline.make(open_ledger=second)
        pipeline.clock.at(0, beat_and_go)
        pipeline.run_for(hours=1)
    assert pipeline.trained_spans() == [2, 3, 4]
    assert events().index("standby") < events().index("lease_taken")


def test_once_refuses_while_another_worker_is_alive(watched):
    pipeline = watched()
    with pipeline.open_ledger() as other:
        other.acquire(ttl_seconds=60)
        pipeline.clock.at(0, other.beat)
        with pytest.raises(LeaseHeldError, match="is being run by another worker"):
            pipeline.make().run_once()


@pytest.mark.parametrize("is_once", [True, False], ids=["once", "for ever"])
def test_waiting_for_the_lease_ends_when_asked_to_stop(watched, is_once):
    pipeline = watched()
    with pipeline.open_ledger() as other:
        other.acquire(ttl_seconds=60)
        daemon = pipeline.make()
        pipeline.clock.at(0, daemon.stop)
        daemon.run_once() if is_once else daemon.run()
        assert other.lease().token == 1
    assert not daemon.has_left_work


def test_a_worker_that_lost_the_lease_stops_and_stands_by(watched, events):
    """The lease goes away in the middle of a cycle, as when this machine slept; nothing more is written with it."""
    pipeline = watched(poll_seconds=600.0)
    pipeline.use_turns()
    lost = []

    @contextmanager
    def lead(ledger, ttl_seconds, event):
        lost.append(event)
        ledger.acquire(ttl_seconds=ttl_seconds)
        yield
        ledger.release()

    def before(plan, node):
        if node == "Trainer" and len(lost) == 1:
            with pipeline.open_ledger() as thief:
                _steal(thief)
            lost[0].set()
        pipeline.clock.node_boundary(plan, node)

    pipeline.small.dag.before = before
    pipeline.make(lead=lead)
    pipeline.run_for(hours=9)
    assert len(lost) == 2
    assert events()[:4] == ["lease_taken", "cycle_started", "cycle_failed", "standby"]
    assert pipeline.trained_spans() == [2, 3, 4]
    assert len(set(pipeline.small.dag.finished)) == len(pipeline.small.dag.finished)


def _steal(ledger):
    """Take the lease from a holder that is alive, as a worker does that saw it silent for too long."""
    seen = ledger._lease_row()
    ledger._take(seen, 60.0)
    ledger.release()


def test_a_ledger_that_is_away_is_waited_for(watched, events):
    pipeline = watched()
    failures = [
        UnavailableError("The database does not answer."),
        LedgerError("It is newer than this."),
        OSError("odd"),
    ]

    def open_ledger():
        if failures:
            raise failures.pop()
        return pipeline.open_ledger()

    pipeline.make(open_ledger=open_ledger)
    pipeline.run_for(days=1)
    assert events().count("backing_off") == 3
    assert pipeline.trained_spans() == [2, 3, 4]


def test_a_loop_that_hangs_is_not_live(watched):
    pipeline = watched(poll_seconds=30.0)
    lives = []

    def decide(options, view, now):
        for _ in range(2):
            lives.append(pipeline.daemon.board.is_live)
            pipeline.clock.advance(3600)
        pipeline.daemon.stop()
        return Tick(waits_for="nothing")

    pipeline.make(decide=decide).run()
    assert lives == [True, False]


def test_alerts_are_shown_and_said_once(watched, events):
    pipeline = watched(expected_every_seconds=3600.0)
    pipeline.run_for(days=2)
    assert "Span 4 is the last that came" in pipeline.status.alerts[0]
    assert events().count("alert") == len(pipeline.status.alerts) == 1


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_nothing_is_trained_twice_and_nothing_is_lost(watched, seed):
    """Spans come while nodes fail, the disk is full, workers die, and people stop and start the daemon."""
    chance = random.Random(seed)
    pipeline = watched(min_interval_seconds=0.0)
    small = pipeline.small
    is_running = []

    def before(plan, node):
        assert not is_running
        is_running.append(plan.run_id)
        try:
            kind = chance.choice([None] * 24 + [Killed, UnavailableError, NodeError, StoppedError])
            if kind is not None:
                pipeline.daemon.stop() if kind is StoppedError else None
                raise kind("a test")
        finally:
            is_running.clear()

    small.dag.before = before
    newest = 4
    while newest < 10:
        for _ in range(chance.randrange(3)):
            newest += 1
            small.add_span(newest)
        try:
            pipeline.make()
            pipeline.run_for(hours=chance.choice([1, 6, 24]))
        except Killed:
            pipeline.clock.hooks.clear()
    small.dag.before = lambda plan, node: None
    pipeline.make()
    pipeline.run_for(days=1)
    trained = pipeline.trained_spans()
    assert sorted(trained) == sorted(set(trained))
    assert len(set(small.dag.finished)) == len(small.dag.finished)
    assert set(pipeline.states()) == set(range(1, newest + 1))
    assert set(pipeline.states().values()) <= {"trained", "pushed", "quarantined"}
    assert small.ledger.open_run() is None
