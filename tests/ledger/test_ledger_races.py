"""Several processes and threads on one ledger: each write has one winner, and a dead or stale worker does no harm."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from core.clock import ManualClock
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, SpanArrival

NUM_WORKERS = 4
NUM_VERSIONS = 25
# Not multiprocessing: it would import this file as `tests.…`, and another `tests` is in a TFX environment.
WORKER = """
import json, sys
from core.errors import PipelineError
from ledger.ledger import Ledger
for line in sys.stdin:
    try:
        if line.startswith("open "):
            ledger = Ledger.open(line.split()[1], "flights")
            answer = True
        elif line.startswith("close"):
            ledger.close()
            answer = True
        else:
            answer = eval(line)
    except PipelineError as error:
        answer = type(error).__name__
    print(json.dumps(answer, default=str), flush=True)
"""


class Worker:
    """A process that answers expressions about `ledger`, which it has open from `open URL` to `close`."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", WORKER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, expression: str) -> None:
        """Give it something to answer, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Return the next answer: a value, or the name of an error's class."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, expression: str) -> Any:
        self.say(expression)
        return self.hear()

    def kill(self) -> None:
        """End it as the kernel does, and leave it unburied."""
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def bury(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def idle_workers() -> Iterator[list[Worker]]:
    """Return workers that later tests can use again: a process takes long to import what it needs."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.bury()


@pytest.fixture
def start_workers(idle_workers: list[Worker]) -> Iterator[Callable[[str, int], list[Worker]]]:
    working: list[Worker] = []

    def start(url: str, num_workers: int) -> list[Worker]:
        working.extend(idle_workers.pop() if idle_workers else Worker() for _ in range(num_workers))
        assert ask_all(working, f"open {url}") == [True] * num_workers
        return working

    yield start
    for worker in working:
        # One that was killed is not asked again.
        if os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            worker.ask("close")
            idle_workers.append(worker)
        else:
            worker.bury()


StartWorkers = Callable[[str, int], list[Worker]]
OpenLedger = Callable[..., Ledger]


def ask_all(workers: list[Worker], *expressions: str) -> list[Any]:
    """Let workers answer all at once; one expression is for all of them."""
    for worker, expression in zip(workers, expressions * (len(workers) // len(expressions)), strict=True):
        worker.say(expression)
    return [worker.hear() for worker in workers]


def test_processes_that_make_a_ledger_at_once_share_it(new_url: str, start_workers: StartWorkers) -> None:
    workers = start_workers(new_url, NUM_WORKERS)
    reserved = ask_all(workers, f"[ledger.reserve_version() for _ in range({NUM_VERSIONS})]")
    assert sorted(version for versions in reserved for version in versions) == [
        *range(1, NUM_WORKERS * NUM_VERSIONS + 1)
    ]
    assert all(versions == sorted(versions) for versions in reserved)


def test_one_of_several_processes_moves_the_champion(
    open_ledger: OpenLedger, make_model: Callable[..., ModelRecord], ledger_url: str, start_workers: StartWorkers
) -> None:
    ledger = open_ledger()
    versions = range(1, NUM_WORKERS + 1)
    for _ in versions:
        ledger.record_model(make_model(ledger.reserve_version()))
    workers = start_workers(ledger_url, NUM_WORKERS)
    moved = ask_all(workers, *(f"ledger.promote(None, {version})" for version in versions))
    assert sorted(moved) == [False] * (NUM_WORKERS - 1) + [True]
    (move,) = ledger.champion_moves()
    assert move.version == versions[moved.index(True)]


def test_one_of_several_threads_moves_the_champion(
    open_ledger: OpenLedger, make_model: Callable[..., ModelRecord]
) -> None:
    ledger = open_ledger()
    for _ in range(NUM_WORKERS + 1):
        ledger.record_model(make_model(ledger.reserve_version()))
    assert ledger.promote(None, 1)
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        moved = list(pool.map(lambda version: ledger.promote(1, version), range(2, NUM_WORKERS + 2)))
    assert sorted(moved) == [False] * (NUM_WORKERS - 1) + [True]


def test_threads_register_each_span_once(open_ledger: OpenLedger, arrive: Callable[..., SpanArrival]) -> None:
    ledgers = [open_ledger() for _ in range(NUM_WORKERS)]
    arrivals = [arrive(span) for span in range(30)]
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        registered = list(pool.map(lambda ledger: ledger.register_spans(arrivals), ledgers))
    assert sorted(registered) == [0] * (NUM_WORKERS - 1) + [len(arrivals)]
    assert len(ledgers[0].spans()) == len(arrivals)


def test_one_of_several_processes_gets_the_lease(
    ledger_url: str, open_ledger: OpenLedger, start_workers: StartWorkers
) -> None:
    workers = start_workers(ledger_url, NUM_WORKERS)
    answers = ask_all(workers, "ledger.acquire(ttl_seconds=3600, may_wait=False).token")
    assert sorted(answers, key=str) == [1] + ["LeaseHeldError"] * (NUM_WORKERS - 1)
    lease = open_ledger().lease()
    assert lease is not None
    assert f":{workers[answers.index(1)].process.pid}:" in str(lease.holder)


def test_a_killed_holder_is_followed_at_once(
    ledger_url: str, open_ledger: OpenLedger, start_workers: StartWorkers
) -> None:
    (worker,) = start_workers(ledger_url, 1)
    assert worker.ask("ledger.acquire(ttl_seconds=3600).token") == 1
    worker.kill()
    assert open_ledger().acquire(ttl_seconds=3600, may_wait=False).token == 2


def test_what_a_worker_was_killed_in_the_middle_of_is_undone(
    ledger_url: str, open_ledger: OpenLedger, start_workers: StartWorkers
) -> None:
    (worker,) = start_workers(ledger_url, 1)
    worker.ask("ledger.acquire(ttl_seconds=3600).token")
    # It keeps the block, so that nothing closes it.
    worker.ask("[globals().update(block=ledger.fenced()), block.__enter__(), ledger.reserve_version()]")
    worker.kill()
    ledger = open_ledger()
    assert ledger.acquire(ttl_seconds=3600, may_wait=False).token == 2
    assert ledger.reserve_version() == 1


def test_a_stopped_holder_that_wakes_up_writes_nothing(
    ledger_url: str, open_ledger: OpenLedger, start_workers: StartWorkers, clock: ManualClock
) -> None:
    (worker,) = start_workers(ledger_url, 1)
    worker.ask("ledger.acquire(ttl_seconds=3600).token")
    worker.process.send_signal(signal.SIGSTOP)
    ledger = open_ledger()
    # Our own clock passes the hour in no time.
    assert ledger.acquire(ttl_seconds=60).token == 2
    assert ledger.reserve_version() == 1
    worker.process.send_signal(signal.SIGCONT)
    assert worker.ask("ledger.reserve_version()") == "LeaseLostError"
    assert worker.ask("ledger.beat()") == "LeaseLostError"
    assert worker.ask("ledger.fenced().__enter__()") == "LeaseLostError"
    assert ledger.reserve_version() == 2
