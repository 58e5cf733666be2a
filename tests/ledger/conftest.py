"""Ledgers on SQLite, PostgreSQL and MariaDB, with a clock that stands still until it is told to move."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from ledger.ledger import Ledger
from ledger.tables import metadata
from schemas.ledger_records import ModelRecord, SpanArrival
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/pipeline/ledger.sqlite"


KINDS = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(params=KINDS)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Return where a ledger may be that knows nothing yet, on each kind of database in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(request.param).clear_database(metadata))


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest) -> str:
    """Return where no ledger is yet, on each kind of database in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(request.param).make_database())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def open_ledger(ledger_url: str, clock: ManualClock) -> Iterator[Callable[..., Ledger]]:
    """Open the test's ledger, as often as asked; all are closed at the end."""
    opened: list[Ledger] = []

    def open_again(pipeline: str = "flights") -> Ledger:
        opened.append(Ledger.open(ledger_url, pipeline, clock=clock))
        return opened[-1]

    yield open_again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def make_ref() -> Callable[..., SpanRef]:
    def make(span: int, version: int = 1, digest: str | None = None) -> SpanRef:
        return SpanRef(span=span, version=version, digest=digest or f"{span:032x}{version:032x}")

    return make


@pytest.fixture
def arrive(make_ref: Callable[..., SpanRef]) -> Callable[..., SpanArrival]:
    def make(span: int, version: int = 1, digest: str | None = None, **more: Any) -> SpanArrival:
        return SpanArrival(ref=make_ref(span, version, digest), num_examples=more.pop("num_examples", 10), **more)

    return make


@pytest.fixture
def make_model() -> Callable[..., ModelRecord]:
    def make(version: int, **changes: object) -> ModelRecord:
        fields: dict[str, object] = {
            "version": version,
            "run_id": f"run-{version}",
            "span": 7 + version,
            "span_version": 1,
            "model_uri": f"/artifacts/model/{version}",
            "model_digest": "a" * 64,
            "training_digest": "b" * 64,
            "transform_graph_uri": "/artifacts/transform_graph/1",
            "transform_span": 8,
            "statistics_uri": "/artifacts/statistics/1",
            "model_shape": "c" * 64,
            "base_version": version - 1 or None,
            "pushed_at": NOON,
        }
        return ModelRecord.model_validate(fields | changes)

    return make
