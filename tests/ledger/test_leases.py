"""One worker at a time, and nothing from one that lost its lease."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import ManualClock
from core.errors import LeaseHeldError, LeaseLostError, LedgerError, UnavailableError
from ledger.holders import holder_of_this_process
from ledger.ledger import Ledger
from schemas.ledger_records import Lease, ModelRecord, RunStart, SpanArrival, SpanOutcome
from schemas.spans import SpanRef

OpenLedger = Callable[..., Ledger]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


class BusyClock(ManualClock):
    """A clock on which something happens while one waits."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(NOON)
        self.happens = happens

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let it happen, and the time pass."""
        self.happens()
        return super().wait(event, seconds)


def test_a_free_lease_is_taken_at_once(open_ledger: OpenLedger, clock: ManualClock) -> None:
    ledger = open_ledger()
    assert ledger.lease() is None
    lease = ledger.acquire(ttl_seconds=60)
    assert lease == Lease(token=1, holder=holder_of_this_process(), beats=1, ttl_seconds=60, heartbeat_at=NOON)
    assert open_ledger().lease() == lease
    assert clock.now() == NOON


def test_a_live_holder_is_named(open_ledger: OpenLedger) -> None:
    open_ledger().acquire(ttl_seconds=60)
    with pytest.raises(
        LeaseHeldError, match=r"holder='.*:\d+:\d+', whose last sign of life was at 2013-03-01 12:00:00"
    ):
        open_ledger().acquire(ttl_seconds=60, may_wait=False)


def test_a_released_lease_is_free_at_once(open_ledger: OpenLedger) -> None:
    first, second = open_ledger(), open_ledger()
    first.acquire(ttl_seconds=60)
    first.release()
    released = second.lease()
    assert released is not None
    assert released.holder is None
    assert second.acquire(ttl_seconds=60, may_wait=False).token == 2
    first.release()
    assert second.lease() is not None
    second.beat()
    second.release()
    assert first.acquire(ttl_seconds=60, may_wait=False).token == 3


def test_a_silent_holder_is_waited_for_as_long_as_it_said(open_ledger: OpenLedger, clock: ManualClock) -> None:
    open_ledger().acquire(ttl_seconds=60)
    clock.advance(3600)
    waited_since = clock.monotonic()
    assert open_ledger().acquire(ttl_seconds=5).token == 2
    assert clock.monotonic() - waited_since == pytest.approx(60)


def test_a_wall_clock_that_jumps_gives_no_lease_away(open_ledger: OpenLedger, clock: ManualClock) -> None:
    open_ledger().acquire(ttl_seconds=60)
    clock.jump(365 * 86400)
    with pytest.raises(LeaseHeldError):
        open_ledger().acquire(ttl_seconds=60, may_wait=False)


@pytest.mark.parametrize("sign", ["beat", "write"])
def test_a_holder_that_gives_a_sign_keeps_its_lease(ledger_url: str, open_ledger: OpenLedger, sign: str) -> None:
    holder = open_ledger()
    holder.acquire(ttl_seconds=60)
    clock = BusyClock(holder.beat if sign == "beat" else holder.reserve_version)
    with Ledger.open(ledger_url, "flights", clock=clock) as waiting, pytest.raises(LeaseHeldError):
        waiting.acquire(ttl_seconds=60)
    assert clock.monotonic() < 60
    holder.beat()


def test_a_lease_released_meanwhile_is_taken(ledger_url: str, open_ledger: OpenLedger) -> None:
    holder = open_ledger()
    holder.acquire(ttl_seconds=60)
    clock = BusyClock(holder.release)
    with Ledger.open(ledger_url, "flights", clock=clock) as waiting:
        assert waiting.acquire(ttl_seconds=60).token == 2
    assert clock.monotonic() < 60


def test_waiting_ends_when_it_is_told_to(open_ledger: OpenLedger) -> None:
    open_ledger().acquire(ttl_seconds=60)
    stop = threading.Event()
    stop.set()
    with pytest.raises(UnavailableError, match="Told to stop while waiting for the lease of pipeline 'flights'"):
        open_ledger().acquire(ttl_seconds=60, stop=stop)


def test_of_two_that_waited_one_takes_over(ledger_url: str, open_ledger: OpenLedger) -> None:
    first, rival = open_ledger(), open_ledger()
    first.acquire(ttl_seconds=60)
    clock = BusyClock(
        lambda: rival.acquire(ttl_seconds=60) if clock.monotonic() > 50 and rival._token is None else None
    )
    with Ledger.open(ledger_url, "flights", clock=clock) as waiting, pytest.raises(LeaseHeldError):
        waiting.acquire(ttl_seconds=60)
    rival.beat()


WRITES: dict[str, Callable[[Ledger, SpanRef], object]] = {
    "beat": lambda ledger, ref: ledger.beat(),
    "register_spans": lambda ledger, ref: ledger.register_spans(
        [SpanArrival(ref=SpanRef(span=99, version=1, digest="d"), num_examples=1)]
    ),
    "move_span": lambda ledger, ref: ledger.move_span(ref, "validated", run_id="run-2"),
    "finish_span": lambda ledger, ref: ledger.finish_span(ref, SpanOutcome(state="blocked", run_id="run-2")),
    "finish_history": lambda ledger, ref: ledger.finish_history([ref], run_id="run-2", reason="because"),
    "start_run": lambda ledger, ref: ledger.start_run(
        RunStart(run_id="run-2", span=1, version=1, trigger="next", plan="{}")
    ),
    "start_attempt": lambda ledger, ref: ledger.start_attempt("run-1"),
    "give_back_attempt": lambda ledger, ref: ledger.give_back_attempt("run-1"),
    "node_finished": lambda ledger, ref: ledger.node_finished("run-1"),
    "keep_decision": lambda ledger, ref: ledger.keep_decision("run-1", "{}"),
    "finish_run": lambda ledger, ref: ledger.finish_run("run-1", "failed"),
    "reopen_run": lambda ledger, ref: ledger.reopen_run("run-1"),
    "reserve_version": lambda ledger, ref: ledger.reserve_version(),
    "record_model": lambda ledger, ref: ledger.record_model(ledger.model(1)),
    "promote": lambda ledger, ref: ledger.promote(None, 1),
    "pin": lambda ledger, ref: ledger.pin(1),
    "unpin": lambda ledger, ref: ledger.unpin(1),
    "mark_removed": lambda ledger, ref: ledger.mark_removed([1]),
    "request_run": lambda ledger, ref: ledger.request_run(),
    "take_request": lambda ledger, ref: ledger.take_request(1),
    "set_fired": lambda ledger, ref: ledger.set_fired("nightly", NOON),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_lost_its_lease_writes_nothing(
    sqlite_url: str,
    clock: ManualClock,
    write: str,
    make_ref: Callable[..., SpanRef],
    make_model: Callable[..., ModelRecord],
) -> None:
    with (
        Ledger.open(sqlite_url, "flights", clock=clock) as stale,
        Ledger.open(sqlite_url, "flights", clock=clock) as worker,
    ):
        stale.register_spans([SpanArrival(ref=make_ref(1), num_examples=1)])
        stale.start_run(RunStart(run_id="run-1", span=1, version=1, trigger="next", plan="{}"))
        stale.record_model(make_model(stale.reserve_version()))
        stale.acquire(ttl_seconds=60)
        worker.acquire(ttl_seconds=60)
        before = everything(worker)
        lost = r"Pipeline 'flights' was taken over by another worker. Expected token=1; received token=2, holder='"
        for _ in range(2):
            with pytest.raises(LeaseLostError, match=lost):
                WRITES[write](stale, make_ref(1))
        stale.release()
        with pytest.raises(LeaseLostError, match=lost):
            WRITES[write](stale, make_ref(1))
        assert everything(worker) == before
        worker.beat()


def everything(ledger: Ledger) -> object:
    questions = (ledger.spans, ledger.runs, ledger.models, ledger.champion, ledger.waiting_requests, ledger.fired)
    answers = [question() for question in questions]
    return answers, ledger.transitions(1), ledger.decision("run-1"), ledger.lease()


def test_every_public_write_is_tried_above() -> None:
    reads = "acquire adopt release lease fenced open exists close spans span versions_of transitions open_spans "
    reads += "newest_spans open_corrections newest_statistics newest_replay scored_spans last_full_training_span run "
    reads += "runs open_run latest_run run_seconds_since last_run_finished_at decision model models first_version "
    reads += "champion champion_moves waiting_requests fired"
    public = {name for name in dir(Ledger) if not name.startswith("_")}
    assert public - set(reads.split()) == set(WRITES)


def test_a_fence_keeps_what_is_inside_together(open_ledger: OpenLedger) -> None:
    ledger, watching = open_ledger(), open_ledger()
    ledger.acquire(ttl_seconds=60)
    with ledger.fenced():
        assert ledger.reserve_version() == 1
        ledger.set_fired("nightly", NOON)
        assert ledger.fired() == {"nightly": NOON}
        assert watching.fired() == {}
    assert watching.fired() == {"nightly": NOON}


def test_a_fence_undoes_what_is_inside_when_it_raises(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()

    def break_off() -> None:
        with ledger.fenced():
            ledger.set_fired("nightly", NOON)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert ledger.fired() == {}


def test_what_failed_inside_a_fence_leaves_the_rest(
    open_ledger: OpenLedger, make_model: Callable[..., ModelRecord]
) -> None:
    ledger = open_ledger()
    with ledger.fenced():
        version = ledger.reserve_version()
        with pytest.raises(LedgerError, match="was never reserved"):
            ledger.record_model(make_model(9))
        ledger.record_model(make_model(version))
    assert [model.version for model in ledger.models()] == [1]


def test_nobody_takes_over_inside_a_fence(open_ledger: OpenLedger) -> None:
    worker, rival = open_ledger(), open_ledger()
    worker.acquire(ttl_seconds=1)
    refused: list[LeaseHeldError] = []

    def take_over() -> None:
        try:
            rival.acquire(ttl_seconds=1)
        except LeaseHeldError as error:
            refused.append(error)

    thread = threading.Thread(target=take_over)
    with worker.fenced():
        thread.start()
        # By its clock the rival has waited long enough in no time; now it stands at the lease row.
        thread.join(timeout=0.2)
        assert thread.is_alive()
        worker.set_fired("nightly", NOON)
    thread.join()
    assert len(refused) == 1
    worker.beat()


def test_a_beat_of_another_thread_waits_for_the_fence(open_ledger: OpenLedger) -> None:
    ledger, watching = open_ledger(), open_ledger()
    ledger.acquire(ttl_seconds=60)
    thread = threading.Thread(target=ledger.beat)
    with ledger.fenced():
        thread.start()
        ledger.set_fired("nightly", NOON)
        inside = ledger.lease()
    thread.join()
    after = watching.lease()
    assert inside is not None
    assert after is not None
    assert after.beats == inside.beats + 1


def test_a_lost_lease_keeps_the_block_from_running(open_ledger: OpenLedger) -> None:
    stale, worker = open_ledger(), open_ledger()
    stale.acquire(ttl_seconds=60)
    worker.acquire(ttl_seconds=60)
    ran = False
    with pytest.raises(LeaseLostError), stale.fenced():
        ran = True
    assert not ran


def test_a_ledger_holds_one_lease(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.acquire(ttl_seconds=60)
    with pytest.raises(LedgerError, match=r"has acquired pipeline 'flights' before.*token=1"):
        ledger.acquire(ttl_seconds=60)


def test_others_may_write_without_a_lease(open_ledger: OpenLedger, clock: ManualClock) -> None:
    worker, visitor = open_ledger(), open_ledger()
    worker.acquire(ttl_seconds=60)
    clock.advance(5)
    visitor.request_run()
    lease = visitor.lease()
    assert lease is not None
    assert lease.heartbeat_at == NOON
    worker.beat()
    lease = visitor.lease()
    assert lease is not None
    assert lease.heartbeat_at == NOON + timedelta(seconds=5)


def test_pipelines_have_leases_of_their_own(open_ledger: OpenLedger) -> None:
    assert open_ledger("flights").acquire(ttl_seconds=60, may_wait=False).token == 1
    assert open_ledger("Flights").acquire(ttl_seconds=60, may_wait=False).token == 1


def test_who_adopts_a_lease_writes_as_its_holder_does(open_ledger: OpenLedger) -> None:
    holder, task = open_ledger(), open_ledger()
    taken = holder.acquire(ttl_seconds=60)
    holder.beat()
    adopted = task.adopt()
    assert adopted == taken.model_copy(update={"beats": taken.beats + 1})
    for write in (task.reserve_version, holder.beat, task.beat, holder.reserve_version):
        write()
    now = task.lease()
    assert now is not None
    assert (now.token, now.holder, now.beats) == (1, taken.holder, adopted.beats + 4)


def test_an_adopted_lease_stays_its_holders(open_ledger: OpenLedger) -> None:
    holder, task = open_ledger(), open_ledger()
    holder.acquire(ttl_seconds=60)
    adopted = task.adopt()
    task.release()
    assert holder.lease() == adopted
    holder.beat()


def test_a_write_of_an_adopter_is_a_sign_of_life(ledger_url: str, open_ledger: OpenLedger) -> None:
    open_ledger().acquire(ttl_seconds=60)
    task = open_ledger()
    task.adopt()
    clock = BusyClock(task.reserve_version)
    with Ledger.open(ledger_url, "flights", clock=clock) as waiting, pytest.raises(LeaseHeldError):
        waiting.acquire(ttl_seconds=60)


@pytest.mark.parametrize("write", WRITES)
def test_an_adopter_writes_nothing_after_a_takeover(
    sqlite_url: str,
    clock: ManualClock,
    write: str,
    make_ref: Callable[..., SpanRef],
    make_model: Callable[..., ModelRecord],
) -> None:
    with (
        Ledger.open(sqlite_url, "flights", clock=clock) as holder,
        Ledger.open(sqlite_url, "flights", clock=clock) as task,
        Ledger.open(sqlite_url, "flights", clock=clock) as worker,
    ):
        holder.acquire(ttl_seconds=60)
        task.adopt()
        task.register_spans([SpanArrival(ref=make_ref(1), num_examples=1)])
        task.start_run(RunStart(run_id="run-1", span=1, version=1, trigger="next", plan="{}"))
        task.record_model(make_model(task.reserve_version()))
        worker.acquire(ttl_seconds=60)
        before = everything(worker)
        task.release()
        with pytest.raises(LeaseLostError, match=r"taken over by another worker. Expected token=1; received token=2"):
            WRITES[write](task, make_ref(1))
        assert everything(worker) == before


def test_a_task_that_runs_again_adopts_the_next_holders_lease(open_ledger: OpenLedger) -> None:
    open_ledger().acquire(ttl_seconds=60)
    task, retried = open_ledger(), open_ledger()
    task.adopt()
    open_ledger().acquire(ttl_seconds=60)
    with pytest.raises(LeaseLostError):
        task.beat()
    assert retried.adopt().token == 2
    assert retried.reserve_version() == 1


def test_a_released_lease_is_adopted_until_it_is_taken(open_ledger: OpenLedger) -> None:
    holder, task = open_ledger(), open_ledger()
    holder.acquire(ttl_seconds=60)
    holder.release()
    lease = task.adopt()
    assert (lease.token, lease.holder) == (1, None)
    assert task.reserve_version() == 1
    holder.acquire(ttl_seconds=60, may_wait=False)
    with pytest.raises(LeaseLostError):
        task.reserve_version()


def test_a_lease_that_nobody_ever_held_is_not_adopted(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    with pytest.raises(LedgerError, match=r"Pipeline 'flights' has no lease to write under.*token=0. Start the run"):
        ledger.adopt()
    assert ledger.lease() is None
    assert ledger.acquire(ttl_seconds=60).token == 1


def test_who_has_a_token_adopts_none(open_ledger: OpenLedger) -> None:
    holder, task = open_ledger(), open_ledger()
    holder.acquire(ttl_seconds=60)
    task.adopt()
    for has_token in (holder, task):
        with pytest.raises(LedgerError, match=r"has acquired pipeline 'flights' before.*token=1"):
            has_token.adopt()
    with pytest.raises(LedgerError, match=r"has acquired pipeline 'flights' before.*token=1"):
        task.acquire(ttl_seconds=60)
