"""A run's own view of a store: the same answers to what TFX asks, from the rows of one run."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from lineage.run_store import RunStore
from lineage.runs import NODE_ID, node_runs
from lineage.store import connection_config

NODES = ("ExampleGen", "Trainer")
RUNS = ("run-1", "run-2")


def memory() -> mlmd.ConnectionConfig:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    return config


class Writer:
    """Writes executions as TFX does, with contexts that have ids already."""

    def __init__(self, store: MetadataStore) -> None:
        self.store = store
        self._type_id = store.put_execution_type(mlmd.ExecutionType(name="Node"))

    def context(self, kind: str, name: str) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is None:
            type_id = self.store.put_context_type(mlmd.ContextType(name=kind))
            self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def contexts(self, node: str, run: str) -> list[mlmd.Context]:
        names = {"pipeline": "flights", "pipeline_run": run, "node": f"flights.{node}"}
        return [self.context(kind, name) for kind, name in names.items()]

    def write(self, node: str, run: str) -> int:
        execution = mlmd.Execution(type_id=self._type_id, last_known_state=mlmd.Execution.COMPLETE)
        return int(self.store.put_execution(execution, [], self.contexts(node, run))[0])


def in_all(store: MetadataStore, contexts: list[mlmd.Context]) -> set[int]:
    """Return what TFX looks for: the executions that are in all of these contexts."""
    return set.intersection(*({e.id for e in store.get_executions_by_context(c.id)} for c in contexts))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(RUNS)), max_size=8))
def test_what_is_in_all_contexts_of_a_node_is_what_the_whole_store_says(written: list[tuple[str, str]]) -> None:
    store = RunStore(memory(), "run-1")
    writer = Writer(store)
    expected: dict[str, set[int]] = {node: set() for node in NODES}
    for node, run in written:
        execution_id = writer.write(node, run)
        if run == "run-1":
            expected[node].add(execution_id)
        assert {n: in_all(store, writer.contexts(n, "run-1")) for n in NODES} == expected


def test_a_state_that_changed_is_read_again() -> None:
    store = RunStore(memory(), "run-1")
    writer = Writer(store)
    execution_id = writer.write("Trainer", "run-1")
    (execution,) = store.get_executions_by_context(writer.context("node", "flights.Trainer").id)
    changed = mlmd.Execution(id=execution_id, type_id=execution.type_id, last_known_state=mlmd.Execution.FAILED)
    store.put_executions([changed])
    (again,) = store.get_executions_by_context(writer.context("node", "flights.Trainer").id)
    assert again.last_known_state == mlmd.Execution.FAILED


def test_an_execution_says_which_node_it_is_of() -> None:
    store = RunStore(memory(), "run-1")
    execution_id = Writer(store).write("Trainer", "run-1")
    (execution,) = store.get_executions_by_id([execution_id])
    assert execution.custom_properties[NODE_ID].string_value == "Trainer"
    assert list(node_runs(store, "run-1")) == ["Trainer"]


def test_executions_of_an_attempt_before_are_found(make_history: Callable[[], Any]) -> None:
    history = make_history()
    for run in RUNS:
        history.run("Trainer", {}, {}, run_id=run)
    store = RunStore(connection_config(history.url), "run-2")
    node = store.get_context_by_type_and_name("node", "flights.Trainer")
    assert [execution.id for execution in store.get_executions_by_context(node.id)] == [2]


def test_a_run_that_has_not_begun_has_no_executions(make_history: Callable[[], Any]) -> None:
    history = make_history()
    history.run("Trainer", {}, {}, run_id="run-1")
    store = RunStore(connection_config(history.url), "run-2")
    assert store.get_executions_by_context(history.store.get_contexts()[0].id) == []


@pytest.mark.parametrize("run", RUNS)
def test_a_context_that_is_made_later_is_found_then(run: str) -> None:
    store = RunStore(memory(), run)
    assert store.get_context_by_type_and_name("pipeline_run", run) is None
    made = Writer(store).context("pipeline_run", run)
    assert store.get_context_by_type_and_name("pipeline_run", run) == made
