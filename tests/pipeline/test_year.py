"""A year of weekly spans with faults, in seconds: real daemon, controller and ledger; a fake DAG and clock."""

import heapq
import logging
import random
import threading
from collections import Counter
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest

from core.clock import ManualClock
from core.errors import DataError, UnavailableError
from ledger.ledger import Ledger
from pipeline.controller import Controller
from pipeline.daemon import Daemon
from pipeline.logs import LOGGER_NAME
from pipeline.policies import TriggerOptions
from pipeline.term import Seams
from schemas.ledger_records import TRANSITIONS
from schemas.spans import MANIFEST_NAME, span_folder
from serving.version_store import versions

DAY = 86400.0
WEEK = 7 * DAY
NODE_SECONDS = 300.0
FIRST_SPAN = 5  # 1 to 4 are there at the start
FAULTS = (
    "late", "missing", "corrected at once", "corrected later", "asked for", "fails once", "poisoned", "disk is full",
    "disk stays full", "killed in a node", "killed at promotion", "killed at the end", "blocked", "rejected", "drifted",
    "broken", "down for weeks", "clock forward", "clock back",
)  # fmt: skip


class KilledError(BaseException):
    """Stands for the death of the process in the middle of a cycle."""


class YearClock(ManualClock):
    """A clock that lets things happen at their time while somebody waits."""

    def __init__(self, start):
        super().__init__(start)
        self._happenings = []
        self._numbers = count()
        self.on_happening = lambda: None

    def at(self, seconds, call):
        heapq.heappush(self._happenings, (seconds, next(self._numbers), call))

    def wait(self, event, seconds):
        deadline = self.monotonic() + max(0.0, seconds)
        while not event.is_set() and self._happenings and self._happenings[0][0] <= deadline:
            at, _, call = heapq.heappop(self._happenings)
            self.advance(max(0.0, at - self.monotonic()))
            call()
            self.on_happening()
        if not event.is_set():
            self.advance(max(0.0, deadline - self.monotonic()))
        return event.is_set()


class Year:
    """What happens to a small pipeline in a year, by a seed."""

    def __init__(self, small, options, *, num_weeks, faults, seed):
        self.small = small
        self.config = small.config.model_copy(update={"triggers": options})
        self.clock = YearClock(small.clock.now())
        self.rng = random.Random(seed)
        self.last_span = FIRST_SPAN + num_weeks - 1
        # The last weeks are quiet, so that all can come to an end.
        spans = self.rng.sample(range(FIRST_SPAN + 3, self.last_span - 4), len(faults))
        self.fault_of = dict(zip(spans, faults, strict=True))
        self.span_of = {fault: span for span, fault in self.fault_of.items()}
        self.daemon = None
        self.is_over = False
        self.down_seconds = 0.0
        self.num_daemons = 0
        self.num_deaths = 0
        self.num_failures = Counter()
        small.dag.before = self.before
        words = {"blocked": "blocked", "rejected": "rejected", "drifted": "cold_start"}
        small.dag.words = {span: words[fault] for span, fault in self.fault_of.items() if fault in words}
        for span in range(FIRST_SPAN, self.last_span + 1):
            self.schedule(span, (span - FIRST_SPAN + 1) * WEEK + self.rng.randrange(3) * 3600)
        self.clock.at((num_weeks + 3) * WEEK, self.end)

    # What happens outside.

    def schedule(self, span, at):
        fault = self.fault_of.get(span)
        if fault == "missing":
            return
        if fault == "broken":
            self.clock.at(at, lambda: self.add_broken(span))
            self.clock.at(at + 9 * DAY, lambda: self.mend(span))
            return
        versions_at_once = (1, 2) if fault == "corrected at once" else (1,)
        late_seconds = 17 * DAY if fault == "late" else 0.0
        self.clock.at(at + late_seconds, lambda: [self.small.add_span(span, version) for version in versions_at_once])
        match fault:
            case "corrected later":
                self.clock.at(at + 3 * WEEK, lambda: self.small.add_span(span, 2))
            case "asked for":
                for seconds in (1.0, 2.0, 3 * DAY):
                    self.clock.at(at + seconds, lambda: self.small.ledger.request_run(span=span))
            case "down for weeks":
                self.clock.at(at + DAY, lambda: self.go_down(3.5 * WEEK))
            case "clock forward":
                self.clock.at(at + DAY, lambda: self.clock.jump(3 * DAY))
            case "clock back":
                self.clock.at(at + DAY, lambda: self.clock.jump(-3 * DAY))

    def add_broken(self, span):
        folder = span_folder(self.config.spans_path, span, 1)
        folder.mkdir(parents=True)
        (folder / MANIFEST_NAME).write_text("{")

    def mend(self, span):
        folder = span_folder(self.config.spans_path, span, 1)
        (folder / MANIFEST_NAME).unlink()
        folder.rmdir()
        self.small.add_span(span)

    def go_down(self, seconds):
        self.down_seconds = seconds
        self.daemon.stop()

    def end(self):
        self.is_over = True
        self.daemon.stop()

    # What happens in a cycle.

    def before(self, plan, node):
        self.clock.advance(NODE_SECONDS)
        assert self.small.ledger.open_run().run_id == plan.run_id, "two cycles at once"
        span, fault = plan.span.span, self.fault_of.get(plan.span.span)
        if node != "Trainer":
            return
        self.num_failures[span] += 1
        number = self.num_failures[span]
        if fault == "poisoned" or (fault == "fails once" and number == 1):
            raise DataError("bad bytes")
        if (fault == "disk is full" and number <= 2) or (fault == "disk stays full" and number <= 8):
            raise UnavailableError("No space left on device")
        if fault == "killed in a node" and number == 1:
            raise KilledError

    def step(self, name, running):
        step = {"killed at promotion": "promote", "killed at the end": "finish_run"}
        fault = self.fault_of.get(running.span.span) if running else None
        if fault in step and name == step[fault] and self.num_failures[running.span.span] < 100:
            self.num_failures[running.span.span] = 100
            raise KilledError

    # The daemon, again and again.

    def live(self):
        while not self.is_over:
            self.num_daemons += 1
            seams = Seams(self.runner_of, self.open_ledger, self.clock, spawn=self.spawn)
            self.daemon = Daemon(self.config, seams)
            # Stands for the kernel's word of new files.
            self.clock.on_happening = self.daemon.wake
            self.daemon.run()
            seconds, self.down_seconds = self.down_seconds, 0.0
            self.clock.wait(threading.Event(), seconds)

    def spawn(self, work):
        try:
            work()
        except KilledError:
            # The second word makes it leave at once, with the run open: the next daemon finds what a death leaves.
            self.num_deaths += 1
            self.daemon.stop()
            self.daemon.stop()

    def runner_of(self, ledger, listeners):
        plans = []

        def on_plan(plan):
            plans[:] = [plan]
            listeners.plan(plan)

        def on_step(name):
            self.step(name, plans[0] if plans else None)

        watched = replace(listeners, plan=on_plan, step=on_step)
        return Controller(self.config, ledger, dag=self.small.dag, listeners=watched, clock=self.clock)

    def open_ledger(self):
        return Ledger.open(self.config.ledger_url, self.config.name, clock=self.clock)


@pytest.fixture
def tmp_path(tmp_path):
    """In memory where there is such a folder: the commits of a year, some thousands, would wait for the disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def year(small):
    def make(*, num_weeks=52, faults=FAULTS, seed=1, **options):
        fields = {"poll_seconds": 3 * DAY, "missing_grace_seconds": 2 * DAY, "expected_every_seconds": 8 * DAY}
        options = TriggerOptions.model_validate({**fields, **options})
        return Year(small, options, num_weeks=num_weeks, faults=faults, seed=seed)

    return make


def check_nothing_is_trained_twice(year):
    runs = {run.run_id: run for run in year.small.ledger.runs()}
    trained = Counter((runs[run_id].span, runs[run_id].version) for run_id in year.small.dag.trained())
    assert [key for key, times in trained.items() if times > 1] == []
    assert all(run.outcome is not None for run in runs.values())


def check_every_step_is_legal_and_says_why(year):
    for record in year.small.ledger.spans():
        assert record.state not in ("arrived", "validated", "evaluated"), record
        assert record.state not in ("skipped", "superseded", "quarantined") or record.reason, record
    for span in {record.span for record in year.small.ledger.spans()}:
        for move in year.small.ledger.transitions(span):
            assert move.from_state is None or move.to_state in TRANSITIONS[move.from_state], move


def check_the_champion_serves_and_never_goes_back(year):
    ledger = year.small.ledger
    moves = [ledger.model(move.version) for move in ledger.champion_moves()]
    assert all(earlier.newest_span <= later.newest_span for earlier, later in pairwise(moves))
    assert versions(year.config.serving_path)[-1] == ledger.champion().version


def state(year, fault, version=-1):
    return year.small.ledger.versions_of(year.span_of[fault])[version].state


def check(weeks):
    """Check what must hold whatever happened."""
    check_nothing_is_trained_twice(weeks)
    check_every_step_is_legal_and_says_why(weeks)
    check_the_champion_serves_and_never_goes_back(weeks)


def test_year_with_faults_trains_every_span_once(year, caplog):
    caplog.set_level(logging.INFO, LOGGER_NAME)
    weeks = year()
    weeks.live()
    check(weeks)
    states = {record.span: record.state for record in weeks.small.ledger.spans()}
    assert states.keys() == set(range(1, weeks.last_span + 1)) - {weeks.span_of["missing"]}
    changed = {
        weeks.span_of[fault] for fault in ("poisoned", "blocked", "rejected", "late", "broken", "corrected later")
    }
    assert {word for span, word in states.items() if span > 1 and span not in changed} == {"pushed"}
    # What comes out of order is run, but a model whose data is older than the champion's never serves.
    assert {state(weeks, fault) for fault in ("late", "broken")} <= {"pushed", "rejected"}
    assert (state(weeks, "poisoned"), state(weeks, "blocked"), state(weeks, "rejected")) == (
        "quarantined", "blocked", "rejected",
    )  # fmt: skip
    assert (state(weeks, "corrected at once", 0), state(weeks, "corrected at once")) == ("superseded", "pushed")
    assert state(weeks, "corrected later", 0) == "pushed"


def test_year_with_faults_has_them_all_and_reports_them(year, caplog):
    caplog.set_level(logging.INFO, LOGGER_NAME)
    weeks = year(seed=2)
    weeks.live()
    check(weeks)
    assert (weeks.num_deaths, weeks.num_daemons) == (3, 5)
    tries = {fault: weeks.num_failures[weeks.span_of[fault]] for fault in FAULTS}
    assert (tries["fails once"], tries["poisoned"], tries["disk is full"]) == (2, 3, 3)
    assert (tries["disk stays full"], tries["killed in a node"]) == (9, 2)
    said = [record.getMessage() for record in caplog.records]
    asked = f"Span {weeks.span_of['asked for']} version 1 is pushed already, and nothing is trained on twice."
    assert said.count(asked) >= 1
    for fault in ("missing", "late"):
        assert any(f"Span {weeks.span_of[fault]} had not come when span" in sentence for sentence in said)
    assert any("another was expected by" in sentence for sentence in said)


@pytest.mark.parametrize("catch_up", ["latest", "none"])
def test_downtime_with_another_catch_up_skips_only_what_came_meanwhile(year, catch_up):
    weeks = year(num_weeks=16, faults=("down for weeks",), catch_up=catch_up)
    weeks.live()
    check(weeks)
    down = weeks.span_of["down for weeks"]
    skipped = [record.span for record in weeks.small.ledger.spans() if record.state == "skipped"]
    came = [down + 1, down + 2, down + 3]
    assert skipped == (came if catch_up == "none" else came[:-1])


def test_half_a_year_by_cron_on_stable_data_scores_every_other_span(year):
    weekly = {"name": "weekly", "trigger": {"kind": "cron", "expression": "0 3 * * 1", "timezone": "Europe/Berlin"}}
    options = {"policies": [weekly], "adaptive": {"stable_spans": 1, "max_skips": 1}}
    weeks = year(num_weeks=26, faults=("late", "missing"), **options)
    weeks.live()
    check(weeks)
    runs = weeks.small.ledger.runs()
    starts = [run.started_at.astimezone(ZoneInfo("Europe/Berlin")) for run in runs]
    assert {(start.weekday(), start.hour) for start in starts} <= {(0, 3), (0, 4)}
    words = Counter(run.outcome for run in runs)
    assert words["scored"] + words["pushed"] == len(runs) == 28  # 4 + 26 spans, 1 in the first window, 1 missing
    assert words["scored"] in (13, 14)
