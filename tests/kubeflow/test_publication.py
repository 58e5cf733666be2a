"""Attempts at a node in ML Metadata: killed, repeated, failed, and with a database that goes away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import execution_result_pb2
from tfx.types.standard_artifacts import Examples, Model

from core.errors import TrainingError, UnavailableError
from lineage.runs import node_failures, node_runs
from lineage.store import connection_config, opened_store
from lineage.tasks import execution_type
from pipeline.kubeflow.publication import MAX_ATTEMPTS, NodeName, NodePublication

NODE = NodeName(pipeline="flights", run_id="run-1", node_id="Trainer", node_type="components.trainer.Trainer")


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where no store is yet, in each kind of database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/metadata.sqlite"
    return str(request.getfixturevalue("mariadb").make_database())


@pytest.fixture
def make_artifact() -> Callable[..., Any]:
    def make(kind: Any, uri: str, **texts: str) -> Any:
        artifact = kind()
        artifact.uri = uri
        for name, text in texts.items():
            artifact.set_string_custom_property(name, text)
        return artifact

    return make


def said_of(**outputs: Any) -> Any:
    """Return what an executor says of its outputs."""
    said = execution_result_pb2.ExecutorOutput()
    for key, artifact in outputs.items():
        said.output_artifacts[key].artifacts.append(artifact.mlmd_artifact)
    return said


def states(url: str) -> list[str]:
    """Return the states of all executions, oldest first."""
    with opened_store(url) as store:
        return [type(e).State.Name(e.last_known_state) for e in sorted(store.get_executions(), key=lambda e: e.id)]


def test_the_last_complete_attempt_counts_and_owns_the_same_artifact(
    url: str, make_artifact: Callable[..., Any]
) -> None:
    examples = make_artifact(Examples, "minio://b/examples")
    for attempt, ending in enumerate(("killed", "complete", "complete")):
        publication = NodePublication(url, NODE)
        # A nested document, as our parameters are.
        publication.begin({"examples": [examples]}, {"options": '{"a": "{\\"b\\": 1}"}', "seed": 7})
        if ending == "complete":
            said = make_artifact(Model, "minio://b/model", digest=f"of attempt {attempt}")
            publication.complete({"model": [make_artifact(Model, "minio://b/model")]}, said_of(model=said))
    assert states(url) == ["FAILED", "COMPLETE", "COMPLETE"]
    with opened_store(url) as store:
        (model,) = store.get_artifacts_by_type("Model")
        node = node_runs(store, "run-1")["Trainer"]
        assert len(store.get_artifacts_by_type("Examples")) == 1
        assert store.get_executions()[0].custom_properties["options"].string_value == '{"a": "{\\"b\\": 1}"}'
        executions = store.get_executions_by_context(store.get_context_by_type_and_name("node", "flights.Trainer").id)
    assert len(executions) == 3
    assert model.state == model.LIVE
    assert node.state == "COMPLETE"
    assert node.outputs["model"].uri == "minio://b/model"
    assert node.outputs["model"].properties["digest"] == "of attempt 2"


def test_a_failure_names_its_class_and_a_later_success_wins(url: str, make_artifact: Callable[..., Any]) -> None:
    publication = NodePublication(url, NODE)
    publication.fail(TrainingError(r"The loss is NaN at 'x\y'."))
    with opened_store(url) as store:
        failure = node_failures(store, "run-1")["Trainer"]
    assert (failure.error_class, failure.text) == ("TrainingError", r"The loss is NaN at 'x\y'.")
    again = NodePublication(url, NODE)
    again.begin({}, {})
    again.complete({}, said_of())
    with opened_store(url) as store:
        assert node_failures(store, "run-1") == {}


def test_what_another_run_made_is_the_input_with_its_properties(url: str, make_artifact: Callable[..., Any]) -> None:
    earlier = NodePublication(url, NODE.model_copy(update={"run_id": "run-0"}))
    earlier.begin({}, {})
    made = make_artifact(Model, "minio://b/model", digest="d")
    earlier.complete({"model": [make_artifact(Model, "minio://b/model")]}, said_of(model=made))
    # KFP's importers know nothing but the URI, and an artifact of another type may lie there.
    imported, other = make_artifact(Model, "minio://b/model"), make_artifact(Examples, "minio://b/model")
    _, known = NodePublication(url, NODE).begin({"base_model": [imported], "examples": [other]}, {})
    assert known["base_model"][0].get_string_custom_property("digest") == "d"
    assert known["base_model"][0].id != known["examples"][0].id
    with opened_store(url) as store:
        assert len(store.get_artifacts_by_uri("minio://b/model")) == 2


def test_a_run_of_tfx_before_and_one_of_the_cluster_share_a_store(url: str) -> None:
    """TFX's launcher knows base types of executions, which a task is not told."""
    local = execution_type(NODE.node_type)
    local.base_type = local.TRAIN
    with Metadata(connection_config(url)) as handle:
        for _ in range(2):
            context = context_lib.register_context_if_not_exists(handle, "pipeline", "flights")
            execution_publish_utils.register_execution(handle, local, [context])
            publication = NodePublication(url, NODE)
            publication.begin({}, {})
            publication.complete({}, said_of())
    assert states(url) == ["RUNNING", "COMPLETE"] * 2


class Outage:
    """A database that is gone until it was waited for long enough, by renaming its file."""

    def __init__(self, path: Path, num_waits: int) -> None:
        self.path = path
        self.num_waits = num_waits
        self.waited: list[float] = []
        path.mkdir()

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        if len(self.waited) == self.num_waits:
            self.path.rmdir()


def test_a_database_that_comes_back_costs_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfx.orchestration.metadata._MAX_INIT_RETRY", 1)
    monkeypatch.setattr("tfx.orchestration.metadata.time.sleep", lambda seconds: None)
    outage = Outage(tmp_path / "metadata.sqlite", num_waits=3)
    url = f"sqlite:///{tmp_path}/metadata.sqlite"
    publication = NodePublication(url, NODE, sleep=outage.wait)
    publication.begin({}, {})
    publication.complete({}, said_of())
    assert outage.waited == sorted(outage.waited)
    assert states(url) == ["COMPLETE"]


def test_a_database_that_stays_away_is_said_to_be_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfx.orchestration.metadata._MAX_INIT_RETRY", 1)
    monkeypatch.setattr("tfx.orchestration.metadata.time.sleep", lambda seconds: None)
    outage = Outage(tmp_path / "metadata.sqlite", num_waits=0)
    publication = NodePublication(f"sqlite:///{tmp_path}/metadata.sqlite", NODE, sleep=outage.wait)
    with pytest.raises(UnavailableError, match=r"metadata.sqlite' could not be written in .* `metadata` in the config"):
        publication.begin({}, {})
    assert len(outage.waited) == MAX_ATTEMPTS - 1
    publication.fail(TrainingError("The loss is NaN."))
    assert len(outage.waited) == MAX_ATTEMPTS - 1
