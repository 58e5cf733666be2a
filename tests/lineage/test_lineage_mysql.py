"""A store in MariaDB answers as one in a file does. MySQL itself speaks the same protocol and the same SQL."""

from collections.abc import Callable
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from sqlalchemy import make_url

from core.errors import LineageError
from lineage.garbage import end_executions, mark_deleted, present_artifacts
from lineage.queries import find_model, model_lineage, span_lineage
from lineage.runs import node_failures, node_runs
from lineage.store import opened_store, store_exists
from lineage.tasks import fail_execution, find_artifact

# What TFX writes: JSON in JSON, and what users write in their configs and columns.
TEXTS = ['it\'s "quoted"', '{"a": "{\\"b\\": 1}"}', r"\d+ 100 % 'x'; --", "Überflug ✈", "", "x" * 70_000]


@pytest.fixture
def url(mariadb: Any) -> str:
    """Return where no store is yet."""
    return str(mariadb.make_database())


def write_line(history: Any, make_ref: Callable[..., Any]) -> Any:
    """Write a cold start on spans 7 and 8, and a warm one with replay on 9."""
    examples = history.examples(make_ref(7), make_ref(8))
    cold = history.train(examples)
    history.judge(cold, version=1)
    warm = history.train(history.examples(make_ref(9)), base=cold, replay=history.replay(s7=3, s8=4))
    history.judge(warm, version=2, champion=cold, metrics='{"auc": 0.75}')
    return warm


def test_lineage_answers_as_from_a_file(
    make_history: Callable[..., Any], make_ref: Callable[..., Any], url: str
) -> None:
    answers = []
    for history in (make_history(), make_history(url)):
        write_line(history, make_ref)
        graph = history.graph()
        model = model_lineage(graph, find_model(graph, 2)).model_dump(exclude={"created_at"})
        assert {span["span"] for span in model["spans"]} == {7, 8, 9}
        assert model["evaluation"]["metrics"] == {"auc": 0.75}
        model["unknown"] = len(model["unknown"])
        answers.append((model, span_lineage(graph, 7).model_dump()))
    assert answers[0] == answers[1]


def test_every_text_comes_back(make_history: Callable[..., Any], url: str) -> None:
    history = make_history(url)
    for number, text in enumerate(TEXTS):
        history.run("Trainer", {}, {"model": [history.artifact("Model", {"text": text}, uri=f"minio://b/{number}")]})
    with opened_store(url) as store:
        found = [find_artifact(store, f"minio://b/{number}", "Model") for number in range(len(TEXTS))]
        assert find_artifact(store, "minio://b/0", "Examples") is None
    assert [artifact.custom_properties["text"].string_value for artifact in found if artifact] == TEXTS


def test_what_ends_is_written(make_history: Callable[..., Any], make_ref: Callable[..., Any], url: str) -> None:
    history = make_history(url)
    model = write_line(history, make_ref)
    states = metadata_store_pb2.Execution
    history.run("Trainer", {}, {}, state=states.RUNNING, run_id="run-1")
    history.run("Gate", {}, {}, state=states.RUNNING, run_id="run-1")
    with opened_store(url, writable=True) as store:
        mark_deleted(store, frozenset({model.uri}))
        (gate,) = store.get_executions_by_type("Gate")[-1:]
        fail_execution(store, gate.id, error_class="DataError", text="No rows, \\ or 'none'.")
        assert end_executions(store, "run-1") == 1
    with opened_store(url) as store:
        assert model.uri not in present_artifacts(store)
        assert {node.node_id: node.state for node in node_runs(store, "run-1").values()} == {
            "Trainer": "FAILED",
            "Gate": "FAILED",
        }
        assert node_failures(store, "run-1")["Gate"].text == "No rows, \\ or 'none'."


def test_asking_makes_no_store(url: str, make_history: Callable[..., Any]) -> None:
    assert not store_exists(url)
    with pytest.raises(LineageError, match="There is no ML Metadata store at 'mysql"), opened_store(url):
        pass
    assert not store_exists(url)
    make_history(url)
    assert store_exists(url)


def test_a_server_that_is_away_is_reported_without_the_password() -> None:
    away = "mysql://me:s3cret@127.0.0.1:1/lineage"
    with pytest.raises(LineageError, match=r"'mysql://me:\*\*\*@127.0.0.1:1/lineage' does not answer") as caught:
        store_exists(away)
    assert "s3cret" not in str(caught.value)
    assert make_url(away).password == "s3cret"  # the test's own
