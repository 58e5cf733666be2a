"""The one connection of a run's nodes: one of them has it at a time, and none finds it closed."""

import threading
from pathlib import Path

import pytest

from lineage.store import connection_config
from pipeline.node_launcher import RunConnection


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/metadata.sqlite"


def test_all_questions_of_a_run_go_over_one_connection(url: str) -> None:
    connection = RunConnection(connection_config(url), "run-1")
    with connection as first:
        store = first.store
        with connection as nested:
            assert nested.store is store
    with connection as later:
        assert later.store is store
    connection.close()
    with connection as reopened:
        assert reopened.store is not store


def test_a_connection_that_was_idle_is_opened_anew_but_not_under_its_user(url: str) -> None:
    connection = RunConnection(connection_config(url), "run-1", max_idle_seconds=-1)
    with connection as first:
        store = first.store
        with connection as nested:
            assert nested.store is store
    with connection as later:
        assert later.store is not store


def test_one_node_at_a_time_has_the_connection(url: str) -> None:
    connection = RunConnection(connection_config(url), "run-1")
    entered = threading.Event()

    def enter() -> None:
        with connection:
            entered.set()

    with connection:
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.is_set()
    other.join(timeout=30)
    assert entered.is_set()


def test_a_store_that_cannot_be_opened_leaves_the_connection_to_others() -> None:
    connection = RunConnection("no config", "run-1")
    outcomes: list[str] = []

    def enter() -> None:
        try:
            with connection:
                outcomes.append("entered")
        except ValueError as error:
            outcomes.append(str(error))

    for _ in range(2):
        other = threading.Thread(target=enter)
        other.start()
        other.join(timeout=30)
    assert len(outcomes) == 2
    assert all(text.startswith("MetadataStore is expecting") for text in outcomes)
