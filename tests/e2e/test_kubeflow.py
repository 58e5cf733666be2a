"""Two spans, cold and then warm, as compiled packages: every task in a process of its own, with KFP's semantics."""

import pytest

from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.store import opened_store
from pipeline.leadership import leading
from serving.version_store import versions

pytestmark = pytest.mark.e2e

# Both run the same executors on the same bytes with the same seeds; only the order of float sums may differ.
TOLERANCE = 1e-6
DIGESTS = ("code", "config", "schema", "data")
SPANS = (2, 3)


@pytest.fixture(scope="module")
def packages(make_pipeline):
    """A pipeline after a cold cycle on spans 1 and 2 and a warm one on 3, its artifacts in an object store."""
    kubeflow = {"pipeline_root": "minio://mlpipeline/v2/artifacts", "poll_seconds": 0.2, "max_retries": 0}
    pipeline = make_pipeline(runner="kubeflow-local", kubeflow=kubeflow)
    # What a task records, it writes as whoever holds the lease.
    with leading(pipeline.ledger, pipeline.config.worker.lease_ttl_seconds):
        return pipeline, [pipeline.run(span) for span in SPANS]


def lineage_of(pipeline, version):
    with opened_store(pipeline.config.metadata_url) as store:
        graph = load_models(store)
    return model_lineage(graph, find_model(graph, version))


def test_packages_decide_and_learn_the_same_as_the_local_runner(packages, cycles):
    pipeline, decisions = packages
    for one, other in zip(decisions, cycles("local").decisions[: len(SPANS)], strict=True):
        assert one.outcome == other.outcome == "pushed"
        assert one.plan.initialisation == other.plan.initialisation
        assert one.drift == other.drift
        assert one.push.version == other.push.version
        assert one.push.is_champion
        assert [one.digests[name] for name in DIGESTS] == [other.digests[name] for name in DIGESTS]
        assert one.gate.candidate == pytest.approx(other.gate.candidate, abs=TOLERANCE)
        assert one.gate.champion == pytest.approx(other.gate.champion, abs=TOLERANCE)
        assert one.training["steps"] == other.training["steps"]
    assert versions(pipeline.config.serving_path) == [1, 2]
    assert [pipeline.state(span) for span in SPANS] == ["pushed", "pushed"]


def test_lineage_answers_the_same_as_after_the_local_runner(packages, cycles):
    mine, theirs = (lineage_of(pipeline, 2) for pipeline in (packages[0], cycles("local").pipeline))
    assert mine.spans == theirs.spans
    assert [base.version for base in mine.base_models] == [base.version for base in theirs.base_models] == [1]


def test_artifacts_lie_in_the_object_store_alone(packages):
    pipeline, _ = packages
    champion = pipeline.ledger.champion()
    assert champion.model_uri.startswith("minio://mlpipeline/v2/artifacts/")
    assert not pipeline.config.artifacts_path.exists()
