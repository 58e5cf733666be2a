"""Every invariant of the drill holds of a sound pipeline and fires on one that was doctored: none is mute."""

import inspect
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from schemas.ledger_records import ChampionMove, Lease, ModelRecord, RunRecord, SpanRecord, Transition
from tools.drill import invariants
from tools.drill.facts import Facts, NodeExecution
from tools.drill.invariants import ALONE, AS_TWIN, every_epoch_was_trained_once, wrote_nothing
from tools.drill.points import Point

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "d" * 64


def transition(span, from_state, to_state):
    return Transition(span=span, version=1, digest=DIGEST, from_state=from_state, to_state=to_state, at=NOW)


def path(span, *states):
    return tuple(transition(span, before, after) for before, after in zip((None, *states), states, strict=False))


def span(number, state="pushed"):
    return SpanRecord(span=number, version=1, digest=DIGEST, num_examples=9, state=state, updated_at=NOW)


def run(run_id, number, outcome="pushed"):
    return RunRecord(run_id=run_id, span=number, version=1, trigger="next", plan="{}", outcome=outcome, started_at=NOW)


def model(version, run_id, number, base=None):
    return ModelRecord(
        version=version, run_id=run_id, span=number, span_version=1, model_uri="m", model_digest="m",
        training_digest="t", transform_graph_uri="g", transform_span=1, statistics_uri="s", model_shape="{}",
        base_version=base, pushed_at=NOW,
    )  # fmt: skip


def move(version, previous, by="cycle"):
    return ChampionMove(version=version, previous=previous, by=by, at=NOW)


def executions(*run_ids):
    return tuple(NodeExecution(run_id, node, "COMPLETE") for run_id in run_ids for node in ("Trainer", "Gate"))


LINEAGE = {
    "version": 2,
    "uri": "/one/model",
    "digest": "a",
    "run_id": "b",
    "spans": [{"span": 1, "version": 1, "digest": DIGEST, "direct": True}],
    "transform_graph": {"uri": "/one/graph", "digest": "g"},
    "config": {"digest": "c"},
    "hyperparameters": {"seed": 7},
}
SOUND = Facts(
    spans=(span(1), span(2)),
    transitions=(
        *path(1, "arrived", "validated", "trained", "evaluated", "pushed"),
        *path(2, "arrived", "validated", "trained", "evaluated", "pushed"),
    ),
    runs=(run("a", 1), run("b", 2)),
    models=(model(1, "a", 1), model(2, "b", 2, base=1)),
    moves=(move(1, None), move(2, 1)),
    champion=2,
    lease=Lease(token=4, holder=None, beats=9, ttl_seconds=3.0, heartbeat_at=NOW),
    executions=executions("a", "b"),
    lineage=LINEAGE,
    visible=(1, 2),
    predictions=(0.25, 0.75),
    decisions={"a": "e" * 64, "b": "f" * 64},
    temporaries=(),
)


def after(changed, *steps):
    """Return the sound transitions with the steps of one span replaced."""
    return (*(step for step in SOUND.transitions if step.span != changed), *steps)


DOCTORED = {
    "no_run_is_open": {"runs": (run("a", 1), run("b", 2, outcome=None))},
    "all_spans_are_done": {"spans": (span(1), span(2, state="trained"), span(3, state="evaluated"))},
    "nobody_holds_the_lease": {"lease": Lease(token=4, holder="host:1:2", beats=9, ttl_seconds=3.0, heartbeat_at=NOW)},
    "no_execution_is_running": {"executions": (*executions("a", "b"), NodeExecution("b", "Pusher", "RUNNING"))},
    "every_node_completed_once": {"executions": (*executions("a", "b"), NodeExecution("b", "Gate", "COMPLETE"))},
    "every_span_is_trained_once": {
        "runs": (run("a", 1), run("b", 2), run("c", 2)),
        "executions": executions("a", "b", "c"),
    },
    "versions_are_unique": {"models": (model(1, "a", 1), model(1, "b", 2))},
    "champion_moves_are_a_chain": {"moves": (move(1, None), move(2, None))},
    "highest_visible_is_champion": {"visible": (1, 2, 3)},
    "transitions_are_legal": {"transitions": after(2, *path(2, "arrived", "trained", "validated", "pushed"))},
    "every_run_has_a_decision_record": {"decisions": {"a": "e" * 64}},
    "no_temporary_is_left": {"temporaries": ("/root/.tmp-x",)},
    "same_states": {"spans": (span(1), span(2, state="rejected"))},
    "same_models": {"models": (model(1, "a", 1), model(2, "b", 2))},
    "same_executions": {"executions": executions("a")},
    "same_predictions": {"predictions": (0.25, 0.750002)},
    "same_lineage": {"lineage": {**LINEAGE, "hyperparameters": {"seed": 8}}},
}


@pytest.mark.parametrize("invariant", ALONE, ids=lambda invariant: invariant.__name__)
def test_invariant_of_one_pipeline_holds_of_a_sound_one_and_fires_on_a_doctored_one(invariant):
    assert invariant(SOUND) == []
    assert invariant(replace(SOUND, **DOCTORED[invariant.__name__])) != []


@pytest.mark.parametrize("invariant", AS_TWIN, ids=lambda invariant: invariant.__name__)
def test_invariant_of_twins_holds_of_equal_ones_and_fires_on_a_doctored_one(invariant):
    doctored = replace(SOUND, **DOCTORED[invariant.__name__])
    assert invariant(SOUND, SOUND) == []
    assert invariant(doctored, SOUND) != []
    assert invariant(SOUND, doctored) != []


def test_every_invariant_is_in_a_list_and_has_a_doctored_pipeline():
    functions = {
        name for name, function in inspect.getmembers(invariants, inspect.isfunction)
        if function.__module__ == invariants.__name__ and not name.startswith("_")
    } - {"normalised"}  # fmt: skip
    lists = {invariant.__name__ for invariant in (*ALONE, *AS_TWIN)}
    assert lists == set(DOCTORED)
    assert functions - lists == {"every_epoch_was_trained_once", "serving_was_never_half", "wrote_nothing"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transitions": after(2)}, "Span 2 version 1 has no transitions"),
        ({"transitions": after(2, transition(2, "arrived", "validated"))}, "begins in arrived"),
        ({"transitions": after(2, *path(2, "arrived", "validated", "trained", "evaluated"))}, "not its last step"),
        (
            {"transitions": after(2, transition(2, None, "arrived"), transition(2, "validated", "trained"))},
            "left validated, but was arrived",
        ),
        ({"moves": (move(1, None), move(2, 1), move(1, 2, by="rollback"))}, "is 2, but was last moved to 1"),
        ({"moves": (move(2, None), move(1, 2, by="rollback"), move(2, 1))}, "A cycle promoted version 2 2 times"),
        ({"visible": ()}, "Serving shows None"),
        ({"models": (model(1, "a", 1), model(2, "a", 2))}, "Run a recorded 2 models"),
    ],
    ids=["path", "arrival", "state", "gap", "other champion", "promoted twice", "nothing visible", "two models"],
)  # fmt: skip
def test_each_way_to_break_an_invariant_is_named(changes, sentence):
    doctored = replace(SOUND, **changes)
    assert sentence in " ".join(found for invariant in ALONE for found in invariant(doctored))


def test_predictions_may_differ_by_rounding_and_never_in_number_or_by_nan():
    assert invariants.same_predictions(replace(SOUND, predictions=(0.25, 0.7500005)), SOUND) == []
    assert "has 2" in invariants.same_predictions(replace(SOUND, predictions=(0.25,)), SOUND)[0]
    assert invariants.same_predictions(replace(SOUND, predictions=(0.25, float("nan"))), SOUND) != []


def test_lineage_of_twins_may_differ_in_ids_times_and_places_alone():
    other = {
        **LINEAGE,
        "version": 5,
        "uri": "/two/model",
        "digest": "z",
        "run_id": "y",
        "transform_graph": {"uri": "/two/graph", "digest": "h"},
    }
    assert invariants.same_lineage(replace(SOUND, lineage=other), SOUND) == []
    metrics = [{**LINEAGE, "evaluation": {"metrics": {"auc": auc}}} for auc in (0.5, 0.5000001, 0.50001)]
    assert invariants.same_lineage(replace(SOUND, lineage=metrics[0]), replace(SOUND, lineage=metrics[1])) == []
    assert invariants.same_lineage(replace(SOUND, lineage=metrics[0]), replace(SOUND, lineage=metrics[2])) != []
    spans = [{**LINEAGE["spans"][0], "digest": "e" * 64}]
    for changes in ({"spans": spans}, {"config": {"digest": "x"}}):
        assert invariants.same_lineage(replace(SOUND, lineage={**LINEAGE, **changes}), SOUND) != []
    assert invariants.same_lineage(replace(SOUND, lineage=None), SOUND) != []


@pytest.mark.parametrize(
    ("changes", "is_sound"),
    [
        ({}, True),
        ({"temporaries": ("/root/.tmp-x",)}, True),
        ({"moves": SOUND.moves[:1]}, False),
        ({"visible": (1,)}, False),
        ({"decisions": {**SOUND.decisions, "b": "0" * 64}}, False),
        ({"executions": (*SOUND.executions, NodeExecution("b", "Pusher", "COMPLETE"))}, False),
    ],
    ids=["same", "leftover", "move", "visible", "decision", "execution"],
)
def test_stale_worker_may_change_nothing(changes, is_sound):
    assert (wrote_nothing(SOUND, replace(SOUND, **changes)) == []) is is_sound


@pytest.mark.parametrize(
    ("epochs", "is_sound"),
    [((1, 2, 3), True), ((1, 2, 2, 3), False), ((1, 2, 1, 2, 3), False), ((1, 3), False), ((), False)],
    ids=["once", "one repeated", "begun again", "one left out", "none seen"],
)
def test_every_epoch_must_be_trained_once(epochs, is_sound):
    seen = [Point("start", "Trainer", "a", 1), *(Point("epoch", str(epoch), "a", 1) for epoch in epochs)]
    assert (every_epoch_was_trained_once(seen, num_epochs=3) == []) is is_sound
