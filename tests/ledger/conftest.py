"""Ledgers in temporary folders, with a clock that stands still until it is told to move."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/pipeline/ledger.sqlite"


@pytest.fixture
def open_ledger(ledger_url: str) -> Iterator[Callable[..., Ledger]]:
    """Open the test's ledger, as often as asked; all are closed at the end."""
    opened: list[Ledger] = []

    def open_again(pipeline: str = "flights") -> Ledger:
        opened.append(Ledger.open(ledger_url, pipeline, clock=lambda: NOON))
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
