"""Nodes run side by side where the DAG lets them, and what one of them raises is told when the others have ended."""

import threading
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.side_by_side import run_side_by_side

# A node waits for its like so long; no test that passes waits.
PATIENCE_SECONDS = 30
DIAMOND: Mapping[str, tuple[str, ...]] = {"top": (), "left": ("top",), "right": ("top",), "bottom": ("left", "right")}


class Diary:
    """Notes what begins and ends, in order."""

    def __init__(self, during: Mapping[str, Callable[[], object]] | None = None) -> None:
        self.notes: list[tuple[str, str]] = []
        self._during = during or {}
        self._lock = threading.Lock()

    def launch(self, node_id: str) -> None:
        self._note("begins", node_id)
        try:
            self._during.get(node_id, lambda: None)()
        finally:
            self._note("ends", node_id)

    def begun(self) -> list[str]:
        return [node_id for word, node_id in self.notes if word == "begins"]

    def most_at_once(self) -> int:
        running, most = 0, 0
        for word, _ in self.notes:
            running += 1 if word == "begins" else -1
            most = max(most, running)
        return most

    def _note(self, word: str, node_id: str) -> None:
        with self._lock:
            self.notes.append((word, node_id))


def test_independent_nodes_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    diary = Diary({"left": meeting.wait, "right": meeting.wait})
    run_side_by_side(DIAMOND, diary.launch, max_parallel=2)
    assert [diary.begun()[0], diary.begun()[-1]] == ["top", "bottom"]


def test_what_the_end_waits_for_longest_starts_first() -> None:
    upstream = {"root": (), "leaf": ("root",), "train": ("root",), "evaluate": ("train",)}
    diary = Diary()
    run_side_by_side(upstream, diary.launch, max_parallel=1)
    assert diary.begun() == ["root", "train", "leaf", "evaluate"]


def test_after_a_failure_nothing_starts_and_what_runs_ends() -> None:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError("left is ill")

    diary = Diary({"left": fail, "right": lambda: failed.wait(PATIENCE_SECONDS)})
    with pytest.raises(ValueError, match="left is ill"):
        run_side_by_side(DIAMOND, diary.launch, max_parallel=2)
    assert ("ends", "right") in diary.notes
    assert "bottom" not in diary.begun()


def test_of_two_failures_the_first_of_the_dag_is_told() -> None:
    second_failed = threading.Event()

    def fail_late() -> None:
        second_failed.wait(PATIENCE_SECONDS)
        raise ValueError("left")

    def fail_early() -> None:
        second_failed.set()
        raise ValueError("right")

    with pytest.raises(ValueError, match="left"):
        run_side_by_side(DIAMOND, Diary({"left": fail_late, "right": fail_early}).launch, max_parallel=2)


def test_threads_of_nodes_do_not_keep_the_process_alive() -> None:
    kinds: list[bool] = []
    run_side_by_side({"only": ()}, lambda _: kinds.append(threading.current_thread().daemon), max_parallel=1)
    assert kinds == [True]


@st.composite
def dags(draw: st.DrawFn) -> dict[str, frozenset[str]]:
    names = [f"node-{number}" for number in range(draw(st.integers(1, 8)))]
    return {
        name: frozenset(draw(st.sets(st.sampled_from(names[:at])))) if at else frozenset()
        for at, name in enumerate(names)
    }


@settings(deadline=None, max_examples=50)
@given(dags(), st.integers(1, 4))
def test_any_dag_runs_whole_in_order_and_within_the_limit(upstream: dict[str, frozenset[str]], limit: int) -> None:
    diary = Diary()
    run_side_by_side(upstream, diary.launch, max_parallel=limit)
    assert sorted(diary.begun()) == sorted(upstream)
    assert diary.most_at_once() <= limit
    for node_id, others in upstream.items():
        begin = diary.notes.index(("begins", node_id))
        assert all(diary.notes.index(("ends", other)) < begin for other in others)
