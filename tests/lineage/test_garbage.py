"""What is marked as deleted, and what lineage says of it afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2

from core.errors import LineageError
from lineage.garbage import end_executions, mark_deleted, present_artifacts, run_contents
from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.runs import node_runs
from lineage.store import opened_store
from schemas.spans import SpanRef


@pytest.fixture
def history(make_history: Callable[[], Any], make_ref: Callable[..., SpanRef]) -> Any:
    """A store with a cold model, pushed as 1, and a warm one from it, pushed as 2."""
    history = make_history()
    cold = history.train(history.examples(make_ref(7)))
    history.judge(cold, version=1)
    warm = history.train(history.examples(make_ref(8)), base=cold)
    history.judge(warm, version=2)
    history.cold, history.warm = cold, warm
    return history


def test_marked_artifacts_are_no_longer_present_and_keep_their_properties(history: Any) -> None:
    with opened_store(history.url) as store:
        before = present_artifacts(store)
    assert before[history.cold.uri] == "Model"
    with opened_store(history.url, writable=True) as store:
        mark_deleted(store, frozenset({history.cold.uri}))
        mark_deleted(store, frozenset({history.cold.uri}))
    with opened_store(history.url) as store:
        assert set(before) - set(present_artifacts(store)) == {history.cold.uri}
        graph = load_models(store)
    answer = model_lineage(graph, find_model(graph, 1))
    assert (answer.is_removed, [ref.span for ref in answer.spans]) == (True, [7])
    child = model_lineage(graph, find_model(graph, 2))
    assert (child.is_removed, [base.is_removed for base in child.base_models]) == (False, [True])


def test_more_artifacts_than_fit_one_write_are_all_marked(history: Any) -> None:
    many = [history.artifact("Examples") for _ in range(1100)]
    history.run("ExampleGen", {}, {"examples": many})
    with opened_store(history.url, writable=True) as store:
        mark_deleted(store, frozenset(artifact.uri for artifact in many))
        assert not set(present_artifacts(store)) & {artifact.uri for artifact in many}


def test_a_run_is_made_of_what_its_executions_read_and_wrote(history: Any) -> None:
    made = history.artifact("ModelRun")
    history.run("Trainer", {"base_model": [history.warm]}, {"model_run": [made]}, run_id="run-a")
    history.run("Trainer", {}, {"model_run": [history.artifact("ModelRun")]}, run_id="run-b")
    with opened_store(history.url) as store:
        contents = run_contents(store, ["run-a", "never-started"])
        (execution,) = [e for e in store.get_executions() if e.id in contents.execution_ids]
        assert store.get_events_by_execution_ids([execution.id])[0].artifact_id == history.warm.id
    assert contents.uris == {history.warm.uri, made.uri}


def test_a_store_that_was_opened_for_reading_is_not_written(history: Any) -> None:
    with pytest.raises(LineageError, match="does not answer"), opened_store(history.url) as store:
        mark_deleted(store, frozenset({history.cold.uri}))


def test_there_must_be_a_store_to_write(tmp_path: Path) -> None:
    with (
        pytest.raises(LineageError, match="no ML Metadata store"),
        opened_store(f"sqlite:///{tmp_path}/no", writable=True),
    ):
        pass


def test_what_a_dead_worker_left_running_ends_as_failed_in_its_run_alone(history: Any) -> None:
    states = metadata_store_pb2.Execution
    for run_id, node, state in (
        ("dead", "ExampleGen", states.COMPLETE),
        ("dead", "Trainer", states.RUNNING),
        ("other", "Trainer", states.RUNNING),
    ):
        history.run(node, {}, {}, state=state, run_id=run_id)
    with opened_store(history.url, writable=True) as store:
        assert [end_executions(store, run_id) for run_id in ("dead", "dead", "unknown")] == [1, 0, 0]
    with opened_store(history.url) as store:
        runs = {run_id: node_runs(store, run_id) for run_id in ("dead", "other")}
    found = {run_id: {node: run.state for node, run in nodes.items()} for run_id, nodes in runs.items()}
    assert found == {"dead": {"ExampleGen": "COMPLETE", "Trainer": "FAILED"}, "other": {"Trainer": "RUNNING"}}
