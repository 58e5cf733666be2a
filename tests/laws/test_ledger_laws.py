"""Whatever two workers do, and whenever they lose the lease: the ledger's history stays one story, told by one."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from core.clock import ManualClock
from core.errors import LeaseLostError, LedgerError
from ledger.ledger import Ledger
from schemas.ledger_records import TRANSITIONS, ModelRecord, RunStart, SpanArrival, SpanOutcome, SpanState
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
# One for all examples, in memory: each example is a pipeline of its own.
URL = "sqlite:///file:/ledger-laws?vfs=memdb&uri=true"
TTL_SECONDS = 60
PIPELINES = count()

WORKERS = st.sampled_from([0, 1])
REFS = st.builds(
    SpanRef, span=st.integers(1, 3), version=st.integers(1, 3), digest=st.sampled_from(["a", "a", "a", "b"])
)
STATES = st.sampled_from(get_args(SpanState))
RUNS = st.sampled_from(["run-1", "run-2"])
VERSIONS = st.integers(1, 5)


class TwoWorkers(RuleBasedStateMachine):
    """Two workers on one pipeline, either of which may believe that it has the lease."""

    @initialize()
    def open_both(self) -> None:
        self.clock = ManualClock(NOON)
        self.pipeline = f"pipeline-{next(PIPELINES)}"
        self.workers = [self.start() for _ in range(2)]
        self.tokens: list[int | None] = [None, None]
        self.newest_token = 0
        self.reserved: list[int] = []

    def start(self) -> Ledger:
        return Ledger.open(URL, self.pipeline, clock=self.clock)

    def teardown(self) -> None:
        # Nothing is ever deleted, so the end shows whatever went wrong on the way.
        if not hasattr(self, "workers"):
            return
        self.steps_lead_to_where_each_span_is()
        self.at_most_one_version_of_a_span_waits()
        self.tokens_never_fall()
        self.the_champion_moved_along_a_chain()
        self.versions_are_unique_and_grow()
        for worker in self.workers:
            worker.close()

    def write(self, worker: int, change: Callable[[Ledger], Any]) -> Any:
        """Let a worker write if it ever had the lease; it must fail exactly when another one has it now."""
        token = self.tokens[worker]
        if token is None:
            return None
        ledger, before = self.workers[worker], self.story()

        def beat_and_change(ledger: Ledger) -> Any:
            # There may be nothing to change, but a worker would notice.
            ledger.beat()
            return change(ledger)

        if token != self.newest_token:
            with pytest.raises(LeaseLostError):
                beat_and_change(ledger)
            assert self.story() == before
            return None
        try:
            return beat_and_change(ledger)
        except LeaseLostError:
            raise
        except LedgerError:
            # A step that is not allowed: refused whole.
            assert self.story() == before
            return None

    def story(self) -> list[Any]:
        ledger = self.workers[0]
        questions = (ledger.spans, ledger.runs, ledger.models, ledger.champion_moves)
        return [question() for question in questions] + [ledger.transitions(span) for span in (1, 2, 3)]

    @rule(worker=WORKERS)
    def acquire(self, worker: int) -> None:
        if self.tokens[worker] is not None:
            # A worker that starts anew, whatever it knew before.
            self.workers[worker].close()
            self.workers[worker] = self.start()
        self.newest_token += 1
        self.tokens[worker] = self.newest_token
        assert self.workers[worker].acquire(ttl_seconds=TTL_SECONDS).token == self.newest_token

    @rule(worker=WORKERS)
    def beat(self, worker: int) -> None:
        self.write(worker, lambda ledger: ledger.beat())

    @rule(seconds=st.integers(0, 2 * TTL_SECONDS), is_jump=st.booleans())
    def let_time_pass(self, seconds: int, is_jump: bool) -> None:
        if is_jump:
            self.clock.jump(-seconds)
        else:
            self.clock.advance(seconds)

    @rule(worker=WORKERS, refs=st.lists(REFS, min_size=1, max_size=4))
    def register(self, worker: int, refs: list[SpanRef]) -> None:
        self.write(worker, lambda ledger: ledger.register_spans(SpanArrival(ref=r, num_examples=1) for r in refs))

    @rule(worker=WORKERS, ref=REFS, state=STATES, run_id=RUNS)
    def move(self, worker: int, ref: SpanRef, state: SpanState, run_id: str) -> None:
        self.write(worker, lambda ledger: ledger.move_span(ref, state, run_id=run_id))

    @rule(worker=WORKERS, span=st.integers(1, 3), run_id=RUNS)
    def run_a_cycle(self, worker: int, span: int, run_id: str) -> None:
        def cycle(ledger: Ledger) -> None:
            for record in ledger.versions_of(span):
                if record.state == "arrived":
                    for state in ("validated", "trained", "evaluated"):
                        ledger.move_span(record.ref, state, run_id=run_id)
                    ledger.finish_span(record.ref, SpanOutcome(state="pushed", run_id=run_id))

        self.write(worker, cycle)

    @rule(worker=WORKERS, refs=st.lists(REFS, max_size=3), run_id=RUNS)
    def finish_history(self, worker: int, refs: list[SpanRef], run_id: str) -> None:
        self.write(worker, lambda ledger: ledger.finish_history(refs, run_id=run_id, reason="in a window"))

    @rule(worker=WORKERS, run_id=RUNS)
    def start_run(self, worker: int, run_id: str) -> None:
        run = RunStart(run_id=run_id, span=1, version=1, trigger="next", plan="{}")
        self.write(worker, lambda ledger: ledger.start_run(run))

    @rule(worker=WORKERS, run_id=RUNS, outcome=st.sampled_from(["failed", "pushed"]))
    def finish_run(self, worker: int, run_id: str, outcome: Any) -> None:
        self.write(worker, lambda ledger: ledger.finish_run(run_id, outcome))

    @rule(worker=WORKERS)
    def record_model(self, worker: int) -> None:
        def record(ledger: Ledger) -> int:
            version = ledger.reserve_version()
            ledger.record_model(model_of(version))
            return version

        if version := self.write(worker, record):
            self.reserved.append(version)

    @precondition(lambda self: len(self.reserved) > 1)
    @rule(worker=WORKERS, expected=st.none() | VERSIONS, version=VERSIONS)
    def promote(self, worker: int, expected: int | None, version: int) -> None:
        champion = self.workers[0].champion()
        current = champion.version if champion else None
        moved = self.write(worker, lambda ledger: ledger.promote(expected, version))
        assert moved in (None, current in (expected, version))

    def steps_lead_to_where_each_span_is(self) -> None:
        ledger = self.workers[0]
        for span in (1, 2, 3):
            replayed: dict[tuple[int, str], SpanState] = {}
            for step in ledger.transitions(span):
                assert replayed.get((step.version, step.digest)) == step.from_state
                if step.from_state is None:
                    assert step.to_state in ("arrived", "superseded")
                else:
                    assert step.to_state in TRANSITIONS[step.from_state]
                replayed[step.version, step.digest] = step.to_state
            assert replayed == {(r.version, r.digest): r.state for r in ledger.versions_of(span)}

    def at_most_one_version_of_a_span_waits(self) -> None:
        for span in (1, 2, 3):
            versions = [r.version for r in self.workers[0].versions_of(span) if r.state == "arrived"]
            assert len(versions) <= 1

    def tokens_never_fall(self) -> None:
        for span in (1, 2, 3):
            tokens = [step.token or 0 for step in self.workers[0].transitions(span)]
            assert all(earlier <= later for earlier, later in pairwise(tokens))
            assert all(token <= self.newest_token for token in tokens)

    def the_champion_moved_along_a_chain(self) -> None:
        ledger = self.workers[0]
        moves = ledger.champion_moves()
        assert [move.previous for move in moves] == [None, *(move.version for move in moves)][: len(moves)]
        champion = ledger.champion()
        assert (champion.version if champion else None) == (moves[-1].version if moves else None)

    def versions_are_unique_and_grow(self) -> None:
        assert self.reserved == sorted(set(self.reserved))
        assert [model.version for model in self.workers[0].models()] == self.reserved


def model_of(version: int) -> ModelRecord:
    return ModelRecord(
        version=version,
        run_id="run-1",
        span=1,
        span_version=1,
        model_uri="/model",
        model_digest="d",
        training_digest="t",
        transform_graph_uri="/graph",
        transform_span=1,
        statistics_uri="/statistics",
        model_shape="{}",
        pushed_at=NOON,
    )


@pytest.fixture(scope="module", autouse=True)
def memory() -> Any:
    """Keep the database in memory from one example to the next."""
    with Ledger.open(URL, "keeper") as keeper, keeper._database.reading():
        yield


TestTwoWorkers = TwoWorkers.TestCase
TestTwoWorkers.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
