"""Simulated runs are read as real ones are: lineage knows all of them, and each has the nodes of our DAG."""

from pathlib import Path

import pytest

from benchmarks.simulated_runs import SimulatedRuns, span_ref, sqlite_store
from lineage.graph import ModelGraph, load_models
from lineage.queries import find_model, model_lineage, span_lineage
from lineage.runs import node_runs
from lineage.store import opened_store
from pipeline.config import load_config

NUM_RUNS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedRuns, Path]:
    path = tmp_path_factory.mktemp("simulated") / "metadata.sqlite"
    config = load_config(Path("conf/flights.yaml"), (f"root={path.parent}", "training.replay_ratio=0.5"))
    runs = SimulatedRuns(sqlite_store(path), config)
    for _ in range(NUM_RUNS):
        runs.write_run()
    return runs, path


@pytest.fixture(scope="module")
def graph(runs: tuple[SimulatedRuns, Path]) -> ModelGraph:
    with opened_store(f"sqlite:///{runs[1]}") as store:
        return load_models(store)


def test_each_model_comes_from_the_one_before(graph: ModelGraph) -> None:
    answer = model_lineage(graph, find_model(graph, NUM_RUNS))
    assert [base.version for base in answer.base_models] == [2, 1]
    assert [(ref.span, ref.digest, ref.direct) for ref in answer.spans] == [
        (span, span_ref(span).digest, True) for span in (1, 2, 3)
    ]
    assert answer.evaluation is not None
    assert answer.evaluation.blessed is True
    # Nothing but the buffer's own file, which no simulation writes.
    assert [sentence.partition(" is unknown")[0] for sentence in answer.unknown] == [
        "How many examples of each span were replayed"
    ]


def test_the_first_span_reaches_every_model(graph: ModelGraph) -> None:
    assert [learner.version for learner in span_lineage(graph, 1).models] == [1, 2, 3]


def test_a_run_has_the_nodes_of_the_dag(runs: tuple[SimulatedRuns, Path]) -> None:
    simulated, path = runs
    with opened_store(f"sqlite:///{path}") as store:
        nodes = node_runs(store, simulated.run_id(NUM_RUNS))
    assert {"ExampleGen", "DriftGate", "Prequential", "ReplayGen", "Trainer", "Gate", "Pusher"} <= nodes.keys()
    assert {node.state for node in nodes.values()} == {"COMPLETE", "CACHED"}
