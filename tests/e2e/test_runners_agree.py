import pytest

from serving.version_store import versions

pytestmark = pytest.mark.e2e

# Both runners run the same executors on the same bytes with the same seeds; only the order of float sums may differ.
TOLERANCE = 1e-6
DIGESTS = ("config", "schema", "data")


@pytest.mark.smoke
def test_both_runners_decide_the_same(cycles):
    local, beam = cycles("local"), cycles("beam")
    for one, other in zip(local.decisions, beam.decisions, strict=True):
        assert one.outcome == other.outcome == "pushed"
        assert one.drift == other.drift
        assert one.push.version == other.push.version
        assert one.push.is_champion
        assert other.push.is_champion
        assert one.plan.initialisation == other.plan.initialisation
        assert [one.digests[name] for name in DIGESTS] == [other.digests[name] for name in DIGESTS]
        assert one.gate.candidate == pytest.approx(other.gate.candidate, abs=TOLERANCE)
        assert one.gate.champion == pytest.approx(other.gate.champion, abs=TOLERANCE)
        assert one.training["steps"] == other.training["steps"]
    assert local.champion_lineage().spans == beam.champion_lineage().spans
    for made in (local, beam):
        assert [base.version for base in made.champion_lineage().base_models] == [2, 1]
        assert versions(made.pipeline.config.serving_path) == [1, 2, 3]
