import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.plan import Request, RunPlan, plan_judgement, plan_run
from pipeline.shape import INT_PARAMETERS, plan_values, shape_of, typical_shape
from schemas.ledger_records import ModelRecord
from schemas.spans import SpanRef

REFS = tuple(SpanRef(span=span, version=1, digest=f"digest-{span}") for span in range(1, 5))
URIS = st.none() | st.sampled_from(["/a", "minio://mlpipeline/v2/b"])


@pytest.fixture(scope="module")
def config():
    return load_config(Path("conf/flights.yaml"))


@st.composite
def plans(draw: st.DrawFn) -> RunPlan:
    """Any combination of what a plan may choose."""
    window = REFS[draw(st.integers(0, 3)) :]
    is_cold = draw(st.booleans())
    model = {
        "version": 1,
        "run_id": "run-1",
        "span": 1,
        "span_version": 1,
        "model_uri": "/models/1",
        "model_digest": "m",
        "training_digest": "t",
        "transform_graph_uri": "/transform/1",
        "transform_span": 1,
        "statistics_uri": "/statistics/1",
        "model_shape": "shape",
        "pushed_at": "2026-01-01T00:00:00Z",
    }
    champion = draw(st.none() | st.just({**model, "moved_at": "2026-01-01T00:00:00Z"}))
    graph = None if is_cold else draw(URIS)
    return RunPlan.model_validate(
        {
            "run_id": "run",
            "trigger": "manual",
            "action": draw(st.sampled_from(["train", "score"])),
            "span": REFS[3],
            "window": window,
            "initialisation": "cold" if is_cold else draw(st.sampled_from(["warm", "auto"])),
            "champion": champion,
            "base": None if is_cold else ModelRecord.model_validate(model),
            "candidate_uri": draw(URIS),
            "line_length": 0 if is_cold else 1,
            "transform_graph_uri": graph,
            "analysis_window": () if graph else draw(st.sampled_from([window, REFS[3:], REFS])),
            "previous_statistics_uri": draw(URIS),
            "reference_statistics_uri": draw(URIS),
            "replay_uri": draw(URIS),
            "prequential_history": (),
            "is_prequential": draw(st.booleans()) if champion else False,
            "is_shadow": draw(st.booleans()),
            "push_version": draw(st.integers(1, 9)),
            "why": (),
        }
    )


@given(plan=plans())
def test_a_plan_gives_exactly_what_its_shape_takes(config, plan):
    values = plan_values(config, plan, "digest-of-code")
    assert tuple(values) == shape_of(config, plan).parameters
    assert {name for name, value in values.items() if isinstance(value, int)} == INT_PARAMETERS & values.keys()
    assert all(isinstance(value, str | int) for value in values.values())


@given(plan=plans())
def test_what_is_mere_value_of_a_plan_leaves_its_shape_alone(config, plan):
    later = plan.model_copy(update={"run_id": "later", "push_version": 99, "why": ("other",), "trigger": "next"})
    assert shape_of(config, later) == shape_of(config, plan)


@pytest.fixture
def usual(config, make_knowledge, make_champion, make_ref, now):
    """Return the plan of the usual cycle of a name, as the planner makes it."""

    def make(name):
        states = {} if name == "cold" else {8: "pushed"}
        champion = None if name == "cold" else make_champion(transform_span=2 if name == "refresh" else 8)
        knowledge = make_knowledge(10, states, champion)
        action = "score" if name == "score" else "train"
        request = Request(make_ref(9), "manual", now, push_version=5, action=action)
        plan = plan_run(knowledge, request, config.window)
        if name != "judgement":
            return plan
        return plan_judgement(plan, request, champion=champion, candidate_uri="/models/9")

    return make


@pytest.mark.parametrize("name", ["cold", "warm", "refresh", "score", "judgement"])
def test_typical_shape_is_that_of_a_usual_plan(config, usual, name):
    plan = usual(name)
    assert shape_of(config, plan) == typical_shape(config, name)
    assert tuple(plan_values(config, plan, "code")) == typical_shape(config, name).parameters


def test_without_a_replay_buffer_nothing_is_offered_to_it(config):
    without = config.model_copy(
        update={"replay": config.replay.model_copy(update={"train_examples": 0, "eval_examples": 0})}
    )
    for name in ("cold", "warm", "refresh", "score", "judgement"):
        shape = typical_shape(without, name)
        assert not shape.offers_replay
        assert "replay" not in shape.imported
        assert "replay_uri" not in shape.parameters


def test_training_request_names_the_checkpoints_of_the_config(config, usual):
    elsewhere = config.model_copy(update={"root": "/mnt/flights"})
    values = plan_values(elsewhere, usual("warm"), "code")
    assert "/mnt/flights/checkpoints/" in json.dumps(values["trainer_config"])
    assert "/mnt/flights" not in json.dumps({key: value for key, value in values.items() if key != "trainer_config"})
