"""Several processes and threads on one ledger file: each write has one winner."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord
from schemas.spans import SpanRef

NUM_WORKERS = 4
NUM_VERSIONS = 25


def in_processes(url: str, expressions: list[str]) -> list[Any]:
    """Evaluate expressions about `ledger`, each in a process of its own, all at once."""
    # Not multiprocessing: it would import this file as `tests.…`, and another `tests` is in a TFX environment.
    code = "import json, sys; from ledger.ledger import Ledger\n"
    code += "with Ledger.open(sys.argv[1], 'flights') as ledger: print(json.dumps(eval(sys.argv[2])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url, expression], stdout=subprocess.PIPE, text=True)
        for expression in expressions
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


def register(url: str, refs: list[SpanRef]) -> int:
    with Ledger.open(url, "flights") as ledger:
        return ledger.register_spans(dict.fromkeys(refs, 10))


def test_processes_never_reserve_the_same_version(ledger_url: str) -> None:
    # The ledger file does not exist yet: the processes race to make it, too.
    reserve = f"[ledger.reserve_version() for _ in range({NUM_VERSIONS})]"
    reserved = in_processes(ledger_url, [reserve] * NUM_WORKERS)
    assert sorted(version for versions in reserved for version in versions) == [
        *range(1, NUM_WORKERS * NUM_VERSIONS + 1)
    ]
    assert all(versions == sorted(versions) for versions in reserved)


def test_one_of_several_processes_moves_the_champion(
    open_ledger: Callable[..., Ledger], make_model: Callable[..., ModelRecord], ledger_url: str
) -> None:
    ledger = open_ledger()
    versions = range(1, NUM_WORKERS + 1)
    for _ in versions:
        ledger.record_model(make_model(ledger.reserve_version()))
    moved = in_processes(ledger_url, [f"ledger.promote(None, {version})" for version in versions])
    assert sorted(moved) == [False] * (NUM_WORKERS - 1) + [True]
    champion = ledger.champion()
    assert champion is not None
    assert champion.version == versions[moved.index(True)]


def test_one_of_several_threads_moves_the_champion(
    open_ledger: Callable[..., Ledger], make_model: Callable[..., ModelRecord]
) -> None:
    ledger = open_ledger()
    for _ in range(NUM_WORKERS + 1):
        ledger.record_model(make_model(ledger.reserve_version()))
    assert ledger.promote(None, 1)
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        moved = list(pool.map(lambda version: ledger.promote(1, version), range(2, NUM_WORKERS + 2)))
    assert sorted(moved) == [False] * (NUM_WORKERS - 1) + [True]


def test_processes_register_each_span_once(
    open_ledger: Callable[..., Ledger], make_ref: Callable[..., SpanRef], ledger_url: str
) -> None:
    ledger = open_ledger()
    refs = [make_ref(span) for span in range(30)]
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        registered = list(pool.map(register, [ledger_url] * NUM_WORKERS, [refs] * NUM_WORKERS))
    assert sum(registered) == len(refs)
    assert len(ledger.spans()) == len(refs)
