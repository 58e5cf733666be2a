"""A cold cycle whose worker is killed over and over ends as the undisturbed one did; `make drill` does it at length."""

from dataclasses import replace

import numpy as np
import pytest

from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.store import opened_store
from serving.scoring import Scorer
from tools.drill.harness import Harness, Worker
from tools.drill.invariants import (
    ALONE,
    MAX_PREDICTION_DIFFERENCE,
    every_epoch_was_trained_once,
    same_lineage,
    serving_was_never_half,
)
from tools.drill.small_pipeline import make_small_pipeline

pytestmark = pytest.mark.e2e

# A boundary between two nodes, the inside of the Trainer behind its only epoch, a node that nobody has published, and
# between the two steps by which a candidate begins to serve.
KILLS = [("published", "DriftGate"), ("epoch", "1"), ("executed", "Gate"), ("step", "expose")]


@pytest.fixture(scope="module")
def killed(cycles, flights_spans, tmp_path_factory):
    """Spans 1 and 2 after a cold cycle of five workers, four of which were killed; the twin is that of other tests."""
    twin = cycles("local").pipeline
    folder = tmp_path_factory.mktemp("killed")
    tree = {**twin.config.model_dump(mode="json", exclude={"root"}), "retries": {"max_attempts": 9}}
    pipeline = make_small_pipeline(folder / "pipeline", flights_spans, num_spans=2, **tree)
    harness = Harness(folder / "harness")
    seen = []
    with harness.watched(pipeline) as watcher:
        for kill in (*KILLS, None):
            with Worker(pipeline) as worker:
                worker.run_until(lambda point, place=kill: (point.kind, point.name) == place)
                worker.kill()
            assert worker.exit_code == (-9 if kill else 0), worker.text
            seen += worker.seen
    return pipeline, harness.facts(pipeline), seen, watcher


def test_killed_workers_leave_nothing_undone_and_do_nothing_twice(killed):
    _, facts, seen, watcher = killed
    assert [sentence for invariant in ALONE for sentence in invariant(facts)] == []
    assert {row.span: row.state for row in facts.spans} == {1: "trained", 2: "pushed"}
    assert len(facts.runs) == len(facts.models) == len(facts.moves) == 1
    assert every_epoch_was_trained_once(seen, num_epochs=1) == []
    assert [point.name for point in seen if point.kind == "resumed"] == ["1"]
    assert serving_was_never_half(watcher) == []


def test_model_of_killed_workers_is_that_of_an_undisturbed_cycle(killed, cycles):
    pipeline, facts, _, _ = killed
    made = cycles("local")
    twin = made.pipeline
    version = made.decisions[0].push.version
    files = [twin.folder(4) / file.path for file in twin.manifest(4).files["eval"]]
    ours, theirs = (
        Scorer(config.serving_path / str(served)).score_files(files, config.label)[1]
        for config, served in ((pipeline.config, facts.champion), (twin.config, version))
    )
    assert np.abs(ours - theirs).max() <= MAX_PREDICTION_DIFFERENCE
    with opened_store(twin.config.metadata_url) as store:
        graph = load_models(store)
    lineage = model_lineage(graph, find_model(graph, version)).model_dump(mode="json", by_alias=True)
    assert same_lineage(facts, replace(facts, lineage=lineage)) == []
