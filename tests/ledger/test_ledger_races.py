"""Several processes and threads on one ledger file: each write has one winner."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord
from schemas.spans import SpanRef

NUM_WORKERS = 4
NUM_VERSIONS = 25


def reserve(url: str) -> list[int]:
    with Ledger.open(url, "flights") as ledger:
        return [ledger.reserve_version() for _ in range(NUM_VERSIONS)]


def promote(url: str, expected: int | None, version: int) -> bool:
    with Ledger.open(url, "flights") as ledger:
        return ledger.promote(expected, version)


def register(url: str, refs: list[SpanRef]) -> int:
    with Ledger.open(url, "flights") as ledger:
        return ledger.register_spans(dict.fromkeys(refs, 10))


def test_processes_never_reserve_the_same_version(ledger_url: str) -> None:
    # The ledger file does not exist yet: the processes race to make it, too.
    with ProcessPoolExecutor(NUM_WORKERS, mp_context=get_context("spawn")) as pool:
        reserved = list(pool.map(reserve, [ledger_url] * NUM_WORKERS))
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
    with ProcessPoolExecutor(NUM_WORKERS, mp_context=get_context("spawn")) as pool:
        moved = list(pool.map(promote, [ledger_url] * NUM_WORKERS, [None] * NUM_WORKERS, versions))
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
