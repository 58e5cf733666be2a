"""What one run left, node by node, when it took more than one attempt."""

from collections.abc import Callable
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from core.errors import LineageError
from lineage.runs import node_runs
from schemas import provenance

RUN = "run-1"
KILLED, DONE = mlmd.Execution.RUNNING, mlmd.Execution.COMPLETE


@pytest.fixture
def history(make_history: Callable[[], Any]) -> Any:
    return make_history()


@pytest.mark.parametrize("states", [(KILLED, DONE), (DONE, KILLED), (mlmd.Execution.FAILED, mlmd.Execution.CACHED)])
def test_the_complete_execution_of_a_node_counts(history: Any, states: tuple[mlmd.Execution.State, ...]) -> None:
    verdict = history.artifact("DriftVerdict", {provenance.DRIFT_VERDICT: 1})
    for state in states:
        complete = state in (DONE, mlmd.Execution.CACHED)
        history.run("DriftGate", {}, {"verdict": [verdict]} if complete else {}, state=state, run_id=RUN)
    runs = node_runs(history.store, RUN)
    assert list(runs) == ["DriftGate"]
    assert runs["DriftGate"].state in ("COMPLETE", "CACHED")
    assert runs["DriftGate"].outputs["verdict"].properties == {provenance.DRIFT_VERDICT: 1}


def test_without_a_complete_one_the_last_attempt_is_told(history: Any) -> None:
    for state in (mlmd.Execution.FAILED, KILLED):
        history.run("Trainer", {}, {}, state=state, run_id=RUN)
    runs = node_runs(history.store, RUN)
    assert (runs["Trainer"].state, runs["Trainer"].outputs) == ("RUNNING", {})


def test_other_runs_are_left_out(history: Any) -> None:
    history.run("ExampleGen", {}, {"examples": [history.artifact("Examples")]}, run_id="run-0")
    history.run("StatisticsGen", {}, {}, run_id=RUN)
    assert list(node_runs(history.store, RUN)) == ["StatisticsGen"]


def test_an_unknown_run_is_refused(history: Any) -> None:
    history.run("ExampleGen", {}, {}, run_id="run-0")
    with pytest.raises(LineageError, match=r"ML Metadata knows no run 'run-1'\. Expected a run of this pipeline"):
        node_runs(history.store, RUN)
