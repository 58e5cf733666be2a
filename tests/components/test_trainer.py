"""What the component adds to TFX's Trainer: the replay buffer's folder, and the run's history on the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts
from tfx.types.channel_utils import as_channel
from tfx.utils import json_utils

from components.trainer import Trainer, TrainerExecutor
from core.digests import digest_of_folder
from schemas.artifacts import ReplayBuffer
from schemas.features import FeatureSet
from schemas.model_layout import SERVING_FOLDER, TRAINING_FOLDER
from schemas.training import (
    PROVENANCE_KEY,
    REPLAY_FOLDER_KEY,
    Initialisation,
    Regularisation,
    TrainerRequest,
    TrainingOptions,
)
from trainer.training_record import TRAINING_RECORD_FILE, TrainingRecord

FEATURES = FeatureSet.model_validate({"features": {"wind": {"kind": "numeric"}}, "label": {"name": "late"}})


def record_what_was_asked(fn_args: Any) -> None:
    """Stand for `run_fn`: write a model's files, and where the replay buffer was said to be."""
    config = fn_args.custom_config
    model = Path(fn_args.serving_model_dir).parent
    for folder in (SERVING_FOLDER, TRAINING_FOLDER):
        (model / folder).mkdir(parents=True)
    (model / SERVING_FOLDER / "replay").write_text(config.get(REPLAY_FOLDER_KEY, "none"))
    (model / TRAINING_FOLDER / TRAINING_RECORD_FILE).write_text(config["record"])


@pytest.fixture
def train(make_artifact: Callable[..., Any]) -> Callable[..., Any]:
    """Run the executor on artifacts and return the model; `start` is how the stand-in says that it started."""

    def run(start: Any, **inputs: Any) -> Any:
        outputs = {
            "model": [make_artifact(standard_artifacts.Model, "trained")],
            "model_run": [make_artifact(standard_artifacts.ModelRun, "run")],
        }
        examples = make_artifact(standard_artifacts.Examples, "examples")
        examples.split_names = '["train", "eval"]'
        config = {"record": _record(start).model_dump_json(), PROVENANCE_KEY: {"run_id": "r1"}}
        properties = {
            "custom_config": json_utils.dumps(config),
            "run_fn": f"{__name__}.{record_what_was_asked.__name__}",
        }
        graph = make_artifact(standard_artifacts.TransformGraph, "graph")
        given = {"examples": examples, "transform_graph": graph, **inputs}
        read = {key: [artifact] for key, artifact in given.items()}
        TrainerExecutor().Do(read, outputs, properties)
        return outputs["model"][0]

    return run


def _record(start: Initialisation) -> TrainingRecord:
    options = TrainingOptions(regularisation=Regularisation(ewc=2.0), replay_ratio=0.5)
    request = TrainerRequest(feature_set=FEATURES, options=options, initialisation="auto", checkpoint_dir="")
    return TrainingRecord(
        request=request,
        num_examples=10,
        num_validation_examples=1,
        num_replay_examples=0 if start == "cold" else 5,
        initialisation=start,
        initialisation_why=f"The probe chose {start}.",
        line_length=3,
        learning_rate=0.1,
        regularisation={} if start == "cold" else {"ewc": 2.0},
        steps=1,
        history=(),
        best_epoch=0,
        seconds=1.0,
        transform_graph_digest="ab",
    )


def test_model_says_how_it_was_trained(train: Callable[..., Any], make_artifact: Callable[..., Any]) -> None:
    replay = make_artifact(ReplayBuffer, "replay")
    base = make_artifact(standard_artifacts.Model, "base")
    model = train("warm", replay=replay, base_model=base)
    text = model.get_string_custom_property
    assert (Path(model.uri) / SERVING_FOLDER / "replay").read_text() == replay.uri
    assert (text("run_id"), text("initialisation"), text("replay_ratio")) == ("r1", "warm", "0.5")
    assert text("initialisation_why") == "The probe chose warm."
    assert json.loads(text("regularisation")) == {"ewc": 2.0}
    assert text("base_model_digest") == digest_of_folder(Path(base.uri))
    assert text("digest") == digest_of_folder(Path(model.uri))


def test_cold_winner_of_a_probe_has_no_base_model(train: Callable[..., Any], make_artifact: Callable[..., Any]) -> None:
    model = train("cold", base_model=make_artifact(standard_artifacts.Model, "base"))
    text = model.get_string_custom_property
    assert (Path(model.uri) / SERVING_FOLDER / "replay").read_text() == "none"
    assert (text("initialisation"), text("base_model_digest"), text("replay_ratio")) == ("cold", "", "0")


def test_node_is_named_trainer_and_replay_is_optional(make_artifact: Callable[..., Any]) -> None:
    examples, graph, schema, replay = (
        as_channel([make_artifact(kind, name)])
        for kind, name in (
            (standard_artifacts.Examples, "examples"),
            (standard_artifacts.TransformGraph, "graph"),
            (standard_artifacts.Schema, "schema"),
            (ReplayBuffer, "replay"),
        )
    )
    inputs = {"examples": examples, "transform_graph": graph, "schema": schema}
    with_replay = Trainer("run", **inputs, custom_config="{}", replay=replay)
    assert with_replay.id == "Trainer"
    assert with_replay.inputs["replay"] is replay
    assert "replay" not in Trainer("run", **inputs, custom_config="{}").inputs
