"""What the daemon answers, asked over real HTTP."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from core.clock import ManualClock
from pipeline.health import Board, HealthServer
from pipeline.ticks import Running
from schemas.spans import SpanRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def board(clock: ManualClock) -> Board:
    return Board("flights", clock)


@pytest.fixture
def ask(board: Board) -> Iterator[Callable[..., tuple[int, dict[str, object]]]]:
    """Return code and document of a request."""
    server = HealthServer(board, 0)
    server.start()

    def get(path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                content = error.read()
            return error.code, json.loads(content) if content.startswith(b"{") else {}

    yield get
    server.stop()


def test_a_loop_that_turns_is_live(board, clock, ask):
    assert ask("/healthz") == (200, {"live": True})
    board.expect_life_within(60)
    clock.advance(60)
    assert ask("/healthz") == (200, {"live": True})
    clock.advance(1)
    assert ask("/healthz") == (503, {"live": False})
    board.expect_life_within(60)
    assert ask("/healthz") == (200, {"live": True})


def test_a_jump_of_the_wall_clock_is_no_death(board, clock, ask):
    board.expect_life_within(60)
    clock.jump(86400)
    assert ask("/healthz") == (200, {"live": True})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 503),
        ({"holds_lease": True, "problem": None, "state": "idle"}, 200),
        ({"holds_lease": True, "problem": "The disk is full.", "state": "backing_off"}, 503),
        ({"holds_lease": False, "problem": None, "state": "standby"}, 503),
    ],
    ids=["before the first look", "idle", "failing", "standby"],
)
def test_ready_means_that_what_is_due_would_run(board, ask, changes, code):
    board.update(**changes)
    status, document = ask("/readyz")
    assert (status, document["ready"]) == (code, code == 200)
    assert document["problem"] == board.status.problem


def test_status_shows_what_runs(board, ask):
    span = SpanRef(span=7, version=1, digest="d")
    running = Running(run_id="r", span=span, policy="new-span", action="train", started_at=NOW)
    board.update(state="running", running=running, node="Trainer", alerts=("Span 8 is overdue.",), next_wake=NOW)
    status, document = ask("/status?pretty")
    assert status == 200
    assert (document["running"]["span"]["span"], document["node"]) == (7, "Trainer")
    assert (document["alerts"], document["next_wake"]) == (["Span 8 is overdue."], "2026-01-01T00:00:00Z")


def test_no_password_is_shown(board, ask):
    board.update(problem="No answer from postgresql://me:secret@db/ledger.")
    _, document = ask("/status")
    assert document["problem"] == "No answer from postgresql://***@db/ledger."


def test_other_pages_are_not_there(ask):
    assert ask("/") == (404, {"error": "No such page: /. Expected /healthz, /readyz or /status."})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused(ask, method):
    code, _ = ask("/status", method)
    assert code == 501


def test_it_listens_on_loopback_alone(board):
    server = HealthServer(board, 0)
    with socket.socket() as other:
        # Another loopback address of the same port is still free, so not all addresses are listened on.
        other.bind(("127.0.0.2", server.port))
    server.stop()


def test_a_port_that_is_taken_is_an_error(board):
    server = HealthServer(board, 0)
    with pytest.raises(OSError, match="in use"):
        HealthServer(board, server.port)
    server.stop()
