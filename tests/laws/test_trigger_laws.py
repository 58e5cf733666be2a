"""Laws of `pipeline.triggers`, driven against a small ledger in memory that is strict about what may happen."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipeline.due import last_fire, next_fire
from pipeline.policies import CronTrigger, TriggerOptions
from pipeline.ticks import Replacement, Running, Start, Tick, TriggerView
from pipeline.triggers import tick
from schemas.ledger_records import SpanRecord, TriggerRequest

# Late on Monday, so that the budget's day ends inside the story. All that happens does so on a grid of five minutes.
BEGIN = datetime(2026, 1, 5, 21, 0, tzinfo=UTC)
STEP = timedelta(minutes=5)
NUM_STEPS = 100
NUM_QUIET_STEPS = 60
DONE = ("trained", "pushed", "rejected", "blocked", "skipped")
MAX_ATTEMPTS = 3

Key = tuple[int, int]


class Event(NamedTuple):
    step: int
    kind: str
    span: int = 0
    version: int = 1
    steps: int = 0


class Made(NamedTuple):
    """A start or a skip, as both ways to drive must make them."""

    step: int
    what: str
    policy: str
    key: Key


class World:
    """Spans, cycles and a daemon in memory. Raises AssertionError where a tick asks for what must never happen."""

    def __init__(self, options: TriggerOptions, *, cold_spans: int | None) -> None:
        self.options = options
        self.step = 0
        self.offset = timedelta()
        self.records: dict[Key, SpanRecord] = {}
        self.learned: list[Key] = []
        self.made: list[Made] = []
        self.requests: dict[int, TriggerRequest] = {}
        self.running: Running | None = None
        self.replacement: Replacement | None = None
        self.ends_at_step = 0
        self.attempts: dict[Key, int] = {}
        self.cold_spans = cold_spans
        self.last_full: int | None = None
        self.fired: dict[str, datetime] = {}
        self.fire_times: dict[str, list[datetime]] = {}
        self.finished_at: tuple[int, datetime] | None = None
        self.busy_steps: list[datetime] = []
        self.looked_at: datetime | None = None
        self.has_just_started = True
        self.is_up_at_step = 0
        self.last: Tick = Tick()

    @property
    def now(self) -> datetime:
        return BEGIN + self.step * STEP + self.offset

    # What happens from outside.

    def happen(self, what: Event) -> None:
        match what.kind:
            case "arrive":
                self.arrive(what)
            case "request":
                number = len(self.requests) + 1
                span = what.span if what.version == 1 else None
                self.requests[number] = TriggerRequest(id=number, span=span, initialisation=None, requested_at=self.now)
            case "down":
                # What runs is resumed before the next daemon looks, since its run is open.
                self.replacement = None
                self.has_just_started, self.is_up_at_step = True, self.step + what.steps
            case "jump":
                self.offset = timedelta(minutes=5 * what.steps)

    def arrive(self, what: Event) -> None:
        key, others = (what.span, what.version), [k for k in self.records if k[0] == what.span]
        if key in self.records:
            return
        is_old = any(version > what.version for _, version in others)
        for other in others:
            if not is_old and self.records[other].state in ("arrived", "quarantined"):
                self.set_state(other, "superseded", "a newer version came")
        self.records[key] = SpanRecord(
            span=what.span,
            version=what.version,
            digest=f"{what.span}-{what.version}",
            num_examples=10,
            state="superseded" if is_old else "arrived",
            reason="a newer version was there" if is_old else None,
            label_complete_time=BEGIN + (what.step + what.steps) * STEP,
            arrived_at=self.now,
            updated_at=self.now,
        )

    def set_state(self, key: Key, state: str, reason: str | None, **fields: Any) -> None:
        self.records[key] = SpanRecord.model_validate(
            {**self.records[key].model_dump(), "state": state, "reason": reason, "updated_at": self.now, **fields}
        )

    # The daemon.

    def look(self) -> Tick:
        """Look, and do what the tick says, until it skips nothing more."""
        for _ in range(10):
            answer = tick(self.options, self.view(), self.now)
            assert answer.next_wake is None or answer.next_wake > self.now
            assert not (answer.start and answer.skips)
            assert answer.start or answer.waits_for
            self.carry_out(answer)
            if not answer.skips:
                self.looked_at, self.has_just_started, self.last = self.now, False, answer
                return answer
        raise AssertionError("ticks skip for ever")

    def view(self) -> TriggerView:
        waiting = [record for _, record in sorted(self.records.items()) if record.state == "arrived"]
        newest = {record.span: record for _, record in sorted(self.records.items()) if record.state != "superseded"}
        known = sorted({span for span, _ in self.records})
        return TriggerView(
            waiting=tuple(waiting[:100]),
            predecessors={
                record.span: max(span for span in known if span < record.span)
                for record in waiting
                if record.span > known[0]
            },
            finished=tuple(record for _, record in sorted(newest.items(), reverse=True) if record.state in DONE),
            metric="auc",
            last_full_training_span=self.last_full,
            cold_spans=self.cold_spans,
            newest_span=known[-1] if known else None,
            requests=tuple(self.requests.values()),
            requested={r.span: newest[r.span] for r in self.requests.values() if r.span in newest},
            running=self.running,
            last_run_finished_at=self.finished_at[1] if self.finished_at else None,
            fired=self.fired,
            compute_seconds_today=sum(300.0 for at in self.busy_steps if at.date() == self.now.date()),
            looked_at=self.looked_at,
            has_just_started=self.has_just_started,
        )

    def carry_out(self, answer: Tick) -> None:
        for policy, at in answer.fired.items():
            self.fired[policy] = at
            trigger = next(p.trigger for p in self.options.policies if p.name == policy)
            assert isinstance(trigger, CronTrigger)
            self.fire_times.setdefault(policy, []).append(last_fire(trigger, at))
        for refusal in answer.refusals:
            assert refusal.reason
            del self.requests[refusal.request_id]
        for skip in answer.skips:
            key = (skip.span.span, skip.span.version)
            assert skip.reason
            assert self.records[key].state == "arrived"
            self.set_state(key, "skipped", skip.reason)
            self.made.append(Made(self.step, "skip", "", key))
        if answer.replace is not None:
            self.replace(answer)
        if answer.start is not None:
            self.start(answer.start)

    def replace(self, answer: Tick) -> None:
        assert self.options.overlap == "replace"
        assert self.running is not None
        assert not self.running.is_stopping, "the same cycle is stopped twice"
        assert answer.replace is not None
        assert answer.replace.run_id == self.running.run_id
        self.running = self.running.model_copy(update={"is_stopping": True})
        self.replacement, self.ends_at_step = answer.replace, self.step + 1

    def end_replaced(self, replacement: Replacement) -> None:
        self.running, self.replacement, self.finished_at = None, None, (self.step, self.now)
        if replacement.span is not None:
            key = (replacement.span.span, replacement.span.version)
            if self.records[key].state != "superseded":
                self.set_state(key, "skipped", replacement.reason)
                self.made.append(Made(self.step, "skip", "", key))

    def start(self, start: Start) -> None:
        key = (start.span.span, start.span.version)
        assert self.running is None, "two cycles at once"
        if start.action == "shadow":
            assert self.records[key].state in DONE
            assert self.last_full is None or self.last_full < key[0], "a shadow model on the same span twice"
            self.last_full = key[0]
        else:
            self.check_start(start, key)
        if start.request_id is not None:
            del self.requests[start.request_id]
        self.attempts[key] = self.attempts.get(key, 0) + (start.action != "shadow")
        self.running = Running(
            run_id=f"r{len(self.made)}",
            span=start.span,
            policy=start.policy,
            action=start.action,
            started_at=self.now,
        )
        self.ends_at_step = self.step + 1 + (key[0] * 7 + key[1] * 3) % 4
        self.made.append(Made(self.step, start.action, start.policy, key))

    def check_start(self, start: Start, key: Key) -> None:
        states = ("arrived", "skipped", "quarantined") if start.request_id is not None else ("arrived",)
        assert self.records[key].state in states
        assert key not in self.learned, "trained on twice"
        if self.records[key].state != "arrived":
            self.set_state(key, "arrived", "a person asks for it")
        if start.request_id is not None:
            return
        kinds = {policy.name: policy.trigger.kind for policy in self.options.policies}
        if kinds[start.policy] == "labels_complete" and not self.offset:
            assert (self.records[key].label_complete_time or self.now) <= self.now
        if (
            self.finished_at is not None
            and not self.offset
            and self.offset == self.finished_at[1] - (BEGIN + self.finished_at[0] * STEP)
        ):
            idle = (self.step - self.finished_at[0]) * STEP
            assert idle >= timedelta(seconds=self.options.min_interval_seconds)

    def end(self) -> None:
        """Let the running cycle end; how, follows from span, version and attempt alone."""
        if self.replacement is not None:
            self.end_replaced(self.replacement)
            return
        running = self.running
        assert running is not None
        self.running, self.finished_at = None, (self.step, self.now)
        key = (running.span.span, running.span.version)
        if running.action == "shadow" or self.records[key].state == "superseded":
            return
        fate = (key[0] * 5 + key[1] * 11 + self.attempts[key]) % 9
        if fate == 0 or (key[0] % 13 == 0):
            is_poisoned = self.attempts[key] >= MAX_ATTEMPTS
            self.set_state(key, "quarantined" if is_poisoned else "arrived", "it failed")
            return
        verdict = ("pass", "pass", "pass", "warn", "cold_start", "block")[(key[0] + key[1]) % 6]
        outcome = {"drift_verdict": verdict, "prequential": {"auc": 0.8 - 0.1 * (key[0] % 3 == 0)}}
        if verdict == "block":
            self.set_state(key, "blocked", "its data", **outcome)
        elif running.action == "score":
            self.set_state(key, "skipped", "it was only scored", **outcome)
        else:
            self.learn(key, outcome)

    def learn(self, key: Key, outcome: dict[str, Any]) -> None:
        window = [key]
        if self.cold_spans is not None:
            before = [k for k in sorted(self.records) if k[0] < key[0] and self.records[k].state != "superseded"]
            window += [
                k for k in before[::-1][: self.cold_spans - 1] if self.records[k].state in ("arrived", "skipped")
            ]
        for member in window:
            assert member not in self.learned, "learned from twice"
            self.learned.append(member)
            self.set_state(member, "trained", "in the window")
        self.set_state(key, "pushed" if key[0] % 4 else "rejected", "the gate", **outcome)
        self.cold_spans = None if key[0] % 4 else self.cold_spans
        if self.cold_spans is None and self.last_full is None:
            self.last_full = key[0]


def live(world: World, events: list[Event], *, every_step: bool) -> World:
    """Let the story happen, looking at every step, or only when an event or `next_wake` says so."""
    by_step: dict[int, list[Event]] = {}
    for what in events:
        by_step.setdefault(what.step, []).append(what)
    for world.step in range(NUM_STEPS + NUM_QUIET_STEPS):
        is_event = world.step == world.is_up_at_step
        for what in by_step.get(world.step, []):
            world.happen(what)
            is_event = True
        if world.step < world.is_up_at_step:
            continue
        if world.running is not None and world.step >= world.ends_at_step:
            world.end()
            is_event = True
        is_wake = world.last.next_wake is not None and world.now >= world.last.next_wake
        if is_event or is_wake or every_step:
            world.look()
        if world.running is not None:
            world.busy_steps.append(world.now)
    return world


NAMES = ("a", "b", "c", "d")
TRIGGERS = st.sampled_from(
    [
        {"kind": "new_span"},
        {"kind": "new_span"},
        {"kind": "labels_complete", "maturity_seconds": 600},
        {"kind": "cron", "expression": "0 * * * *"},
        {"kind": "cron", "expression": "0 * * * *"},
        {"kind": "cron", "expression": "*/15 22-23 * * *", "timezone": "Asia/Kolkata"},
        {"kind": "drift", "severity": "warn"},
        {"kind": "decay", "num_spans": 1, "window_spans": 2},
        {"kind": "manual"},
        {"kind": "manual"},
    ]
)
ACTIONS = st.sampled_from(
    [
        {"select": "next", "action": "train"},
        {"select": "next", "action": "train"},
        {"select": "latest", "action": "train"},
        {"select": "next", "action": "score"},
        {"select": "done", "action": "shadow"},
    ]
)


@st.composite
def all_options(draw: Callable[..., Any]) -> TriggerOptions:
    triggers = draw(st.lists(TRIGGERS, min_size=1, max_size=4, unique_by=lambda t: (t["kind"], t.get("expression"))))
    policies = [{"name": name, "trigger": t, **draw(ACTIONS)} for name, t in zip(NAMES, triggers, strict=False)]
    return TriggerOptions.model_validate(
        {
            "policies": policies,
            "min_interval_seconds": draw(st.sampled_from([0, 300, 900])),
            "catch_up": draw(st.sampled_from(["all", "latest", "none"])),
            "overlap": draw(st.sampled_from(["queue", "skip", "replace"])),
            "adaptive": {"stable_spans": draw(st.sampled_from([None, None, 1, 2]))},
            "daily_compute_seconds": draw(st.sampled_from([None, None, 3000])),
            "missing_grace_seconds": draw(st.sampled_from([0, 1800])),
        }
    )


def events(*kinds: str) -> st.SearchStrategy[list[Event]]:
    one = st.builds(
        Event,
        step=st.integers(0, NUM_STEPS - 1),
        kind=st.sampled_from(kinds),
        span=st.integers(1, 14),
        version=st.sampled_from([1, 1, 1, 2, 3]),
        steps=st.integers(-12, 20),
    )
    return st.lists(one, min_size=1, max_size=40)


COLD = st.sampled_from([None, None, 1, 4])
STORY = ("arrive", "arrive", "arrive", "arrive", "request", "down")
RARE = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RARE
@given(all_options(), COLD, events(*STORY, "jump", "jump"))
def test_nothing_is_trained_twice_dropped_in_silence_or_run_at_once(options, cold_spans, story):
    world = live(World(options, cold_spans=cold_spans), story, every_step=True)
    for key, record in world.records.items():
        event(record.state)
        if record.state == "arrived":
            assert world.running is not None or world.last.waits_for
        elif record.state in ("skipped", "superseded", "quarantined"):
            assert record.reason, key
    assert len(set(world.learned)) == len(world.learned)
    for times in world.fire_times.values():
        assert times == sorted(set(times)), "cron fired twice for one minute"


@RARE
@given(all_options(), COLD, events(*STORY))
def test_looking_at_events_and_wakes_is_enough(options, cold_spans, story):
    patient = live(World(options, cold_spans=cold_spans), story, every_step=False)
    eager = live(World(options, cold_spans=cold_spans), story, every_step=True)
    assert patient.made == eager.made
    event(f"{min(len(eager.made), 5)} things made")


@RARE
@given(st.sampled_from(["next", "latest"]), COLD, events(*STORY, "jump"))
def test_every_span_comes_to_an_end_where_new_spans_fire(select, cold_spans, story):
    policy = {"name": "new", "trigger": {"kind": "new_span"}, "select": select}
    options = TriggerOptions.model_validate({"policies": [policy]})
    world = live(World(options, cold_spans=cold_spans), story, every_step=False)
    assert [key for key, record in world.records.items() if record.state == "arrived"] == []


@RARE
@given(all_options(), events(*STORY))
def test_a_look_changes_nothing_and_repeats(options, story):
    world = World(options, cold_spans=None)
    for what in story:
        world.happen(what)
    view = world.view()
    before = view.model_dump_json()
    assert tick(options, view, world.now) == tick(options, view, world.now)
    assert view.model_dump_json() == before


CLOCK_CHANGES = {
    "Europe/Berlin": [(3, 29, 1), (10, 25, 1)],
    "America/New_York": [(3, 8, 7), (11, 1, 6)],
    "Australia/Lord_Howe": [(4, 4, 15), (10, 3, 15, 30)],  # by half an hour
}


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 * * * *", "*/20 1-3 * * *", "15 3 * * 1", "45 1 * * *"])
@pytest.mark.parametrize("timezone", CLOCK_CHANGES)
def test_cron_looks_back_and_ahead_at_the_same_times_around_clock_changes(timezone, expression):
    trigger = CronTrigger(kind="cron", expression=expression, timezone=timezone)
    for change in CLOCK_CHANGES[timezone]:
        for minutes in range(-180, 180, 10):
            now = datetime(2026, *change, tzinfo=UTC) + timedelta(minutes=minutes)
            last = last_fire(trigger, now)
            assert last <= now < next_fire(trigger, now)
            assert next_fire(trigger, last - timedelta(seconds=1)) == last
            assert next_fire(trigger, last) == next_fire(trigger, now)


def test_a_strict_world_notices_what_is_done_twice():
    world = World(TriggerOptions(), cold_spans=None)
    world.happen(Event(step=0, kind="arrive", span=1))
    start = world.look().start
    assert start is not None
    with pytest.raises(AssertionError, match="two cycles at once"):
        world.start(start)
