"""Whole runs with all on that keeps a model from forgetting: probe, terms, frozen layers, replay, shadow model."""

from pathlib import Path

import keras
import pytest

from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.store import opened_store
from pipeline.decision import read_decision
from schemas.model_layout import KERAS_FILE, TRAINING_FOLDER
from schemas.training import FISHER_FILE
from trainer.analysis import load_analysis

pytestmark = pytest.mark.e2e

TRAINING = {
    "model": {"kind": "dnn", "hidden_units": [8]},
    "batch_size": 128,
    "epochs_cold": 4,
    "epochs_warm": 1,
    "initialisation": "auto",
    "probe": {"num_steps": 1, "num_examples": 200},
    "regularisation": {"l2_sp": 0.01, "ewc": 1.0, "distillation": 0.1, "fisher_examples": 50},
    "freeze": ["embedding_carrier"],
    "learning_rate_policy": "warm_restart",
    "replay_ratio": 0.5,
}


@pytest.fixture(scope="module")
def pipeline(make_pipeline):
    """A pipeline after a cold cycle on span 1."""
    made = make_pipeline(training=TRAINING, window={"cold_spans": 1, "shadow_every_spans": 1, "shadow_spans": 2})
    made.run(1)
    return made


@pytest.fixture(scope="module")
def decision(pipeline):
    """The cycle of span 2, with everything on. Its probe may choose a cold start, and then no shadow model is due."""
    return pipeline.run(2, window={"cold_spans": 1})


@pytest.fixture(scope="module")
def warm(pipeline, decision):
    """The cycle of span 3, warm, with a shadow model after it."""
    return pipeline.run(3, training={**TRAINING, "initialisation": "warm"})


def test_probe_chose_and_said_why(decision):
    assert decision.plan.initialisation == "auto"
    assert decision.training["initialisation"] in ("warm", "shrink_perturb", "cold")
    why = decision.training["initialisation_why"]
    assert why.startswith(f"The probe chose {decision.training['initialisation']}: after 1 steps")
    assert all(name in why for name in ("(warm)", "(shrink_perturb)", "(cold)"))


def test_terms_and_replay_are_in_lineage(pipeline, decision):
    with opened_store(pipeline.config.metadata_url) as store:
        graph = load_models(store)
    models = [node for node in graph.models.values() if node.artifact.text("run_id") == decision.run_id]
    lineage = model_lineage(graph, models[0])
    assert lineage.initialisation == decision.training["initialisation"]
    assert lineage.initialisation_why == decision.training["initialisation_why"]
    assert lineage.regularisation.keys() == decision.training["regularisation"].keys()
    assert lineage.hyperparameters["freeze"] == ["embedding_carrier"]


def test_fisher_information_travels_with_the_first_model(pipeline):
    first = pipeline.ledger.models()[0]
    assert (Path(first.model_uri) / TRAINING_FOLDER / FISHER_FILE).is_file()


def test_shadow_model_is_a_run_of_its_own_at_the_same_gate(pipeline, warm):
    shadow = warm.shadow
    assert [run.trigger for run in pipeline.ledger.runs()] == ["manual", "manual", "manual", "shadow"]
    assert shadow.plan.initialisation == "cold"
    assert [ref.span for ref in shadow.plan.window] == [2, 3]
    assert shadow.gate.champion["auc"] > 0
    assert shadow.plan.champion.version == (warm.push or warm.plan.champion).version
    assert not {"Prequential", "ReplayGen"} & shadow.seconds.keys()
    run = pipeline.ledger.runs()[-1]
    assert read_decision(Path(run.decision_path)) == shadow
    assert pipeline.state(3) == warm.outcome
    serving = (shadow.push or warm.push or warm.plan.champion).version
    assert pipeline.ledger.champion().version == serving
    with opened_store(pipeline.config.metadata_url) as store:
        graph = load_models(store)
    assert model_lineage(graph, find_model(graph, serving)).evaluation.blessed


def test_terms_held_the_warm_model_and_frozen_rows_stayed(pipeline, warm):
    assert warm.training["initialisation"] == "warm"
    assert warm.training["regularisation"] == {"l2_sp": 0.01, "ewc": 1.0, "distillation": 0.1}
    assert warm.training["num_replay_examples"] > 0
    with opened_store(pipeline.config.metadata_url) as store:
        graph = load_models(store)
    (model,) = (node for node in graph.models.values() if node.artifact.text("run_id") == warm.run_id)
    assert model_lineage(graph, model).regularisation == warm.training["regularisation"]
    folders = [Path(uri) / TRAINING_FOLDER for uri in (warm.plan.base_model_uri, model.uri)]
    base, trained = (keras.saving.load_model(folder / KERAS_FILE) for folder in folders)
    num_tokens = len(load_analysis(folders[0]).features["carrier"].tokens)
    rows = [model.get_layer("embedding_carrier").get_weights()[0][:num_tokens] for model in (base, trained)]
    assert (rows[0] == rows[1]).all()
    assert (base.get_layer("hidden_0").get_weights()[0] != trained.get_layer("hidden_0").get_weights()[0]).any()
