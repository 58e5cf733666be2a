"""A training run from TFX's arguments to the files it leaves, and every way in which it refuses to start."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from core.errors import DataError, TrainingError
from schemas.model_layout import KERAS_FILE, SERVING_FOLDER, TRAINING_FOLDER
from schemas.training import FISHER_FILE
from trainer.run_fn import run_fn
from trainer.warm_start import read_base_model

FnArgs = Callable[..., SimpleNamespace]


def _weights(model_folder: Path) -> list[np.ndarray[Any, Any]]:
    model = keras.saving.load_model(model_folder / TRAINING_FOLDER / KERAS_FILE)
    return [np.asarray(weight) for weight in model.weights]


def _predictions(model_folder: Path, serialized: list[bytes]) -> np.ndarray[Any, Any]:
    served = tf.saved_model.load(str(model_folder / SERVING_FOLDER))
    return np.asarray(served.signatures["serving_default"](examples=tf.constant(serialized))["probability"])


def _record(model_folder: Path) -> dict[str, Any]:
    return dict(json.loads((model_folder / TRAINING_FOLDER / "training.json").read_text()))


def test_cold_run_learns_and_writes_both_formats(base_model: Path) -> None:
    record = _record(base_model)
    assert record["history"][-1]["loss"] < record["history"][0]["loss"] < math.log(2)
    assert record["history"][record["best_epoch"]]["val_auc"] > 0.7
    assert (record["num_examples"], record["num_validation_examples"]) == (1000, 100)
    assert (base_model / SERVING_FOLDER / "saved_model.pb").is_file()
    # They stay until the run is over: a kill before the model is published would lose it otherwise.
    assert (base_model / "checkpoints" / "attempt-000001" / "progress.json").is_file()


def test_saved_model_carries_optimizer_state(base_model: Path) -> None:
    model = keras.saving.load_model(base_model / TRAINING_FOLDER / KERAS_FILE, safe_mode=True)
    assert int(model.optimizer.iterations) == _record(base_model)["steps"] == 18
    assert max(float(np.abs(variable).max()) for variable in model.optimizer.variables[2:]) > 0


def test_two_cold_runs_give_equal_weights(flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path) -> None:
    run_fn(fn_args(flights, "two", epochs_cold=2, learning_rate=0.01))
    for one, two in zip(_weights(base_model), _weights(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_warm_run_goes_on_from_weights_and_optimizer(
    flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path
) -> None:
    run_fn(fn_args(flights, "warm", base_model, epochs_warm=1, learning_rate=1e-12, replay_ratio=0.2))
    base, warm = (_predictions(folder, flights.serialized) for folder in (base_model, tmp_path / "warm"))
    np.testing.assert_allclose(base, warm, atol=1e-5)
    record = _record(tmp_path / "warm")
    assert record["steps"] == _record(base_model)["steps"] + 9
    assert (record["initialisation"], record["initialisation_why"]) == ("warm", None)
    assert record["notes"] == ["There is no replay buffer yet, so replay_ratio=0.2 had no effect."]


def test_probed_run_with_every_term_says_what_it_did(
    flights: Any, fn_args: FnArgs, base_model: Path, write_replay: Any, make_examples: Any, tmp_path: Path
) -> None:
    options = {
        "epochs_warm": 1,
        "probe": {"num_steps": 2, "num_examples": 200},
        "regularisation": {"l2_sp": 0.01, "ewc": 2.0, "distillation": 0.1, "fisher_examples": 20},
        "freeze": ("hidden_*",),
        "learning_rate_policy": "inverse_time",
        "warm_learning_rate": 0.0011,
        "replay_ratio": 0.5,
    }
    replay = write_replay(make_examples(90, seed=5))
    run_fn(fn_args(flights, "one", base_model, start="auto", replay=replay, **options))
    record = _record(tmp_path / "one")
    assert record["initialisation"] == "warm"
    assert re.match(r"The probe chose warm: after 2 steps .* \(warm\), .* \(cold\)\.", record["initialisation_why"])
    assert (record["num_replay_examples"], record["line_length"]) == (450, 1)
    assert record["steps"] == 18 + 14
    assert record["learning_rate"] == pytest.approx(0.001)
    assert record["regularisation"] == {"l2_sp": 0.01, "ewc": 2.0, "distillation": 0.1}
    assert record["penalties"]["l2_sp"] > 0
    assert record["penalties"]["ewc"] == 0
    shortage, no_fisher = record["notes"]
    assert "each was used about 5 times an epoch" in shortage
    assert "The base model has no Fisher information" in no_fisher

    model = keras.saving.load_model(tmp_path / "one" / TRAINING_FOLDER / KERAS_FILE)
    base = keras.saving.load_model(base_model / TRAINING_FOLDER / KERAS_FILE)
    np.testing.assert_array_equal(model.get_layer("hidden_0").kernel, base.get_layer("hidden_0").kernel)
    assert not np.array_equal(model.get_layer("head").kernel, base.get_layer("head").kernel)
    weights = {variable.path for variable in model.trainable_variables}
    with np.load(tmp_path / "one" / TRAINING_FOLDER / FISHER_FILE) as fisher:
        assert set(fisher) == {variable.path for variable in model.trainable_variables}
    assert read_base_model(tmp_path / "one" / TRAINING_FOLDER, None).state.fisher.keys() == weights


def test_own_preprocessing_needs_the_graph_of_its_base_model(
    flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path
) -> None:
    own = flights.feature_set.model_copy(update={"preprocessing_fn": "my.module:preprocess"})
    args = fn_args(dataclasses.replace(flights, feature_set=own), "warm", base_model)
    shutil.copytree(flights.graph, tmp_path / "graph")
    (tmp_path / "graph" / "more").write_text("another graph")
    args.transform_graph_path = str(tmp_path / "graph")
    with pytest.raises(TrainingError, match=r"another transform graph.*'my.module:preprocess'.*Plan a cold start"):
        run_fn(args)


def test_logs_hold_losses_weights_and_gradients(base_model: Path) -> None:
    tags: set[str] = set()
    for file in (base_model / "logs").rglob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in event.summary.value}
    assert "epoch_loss" in tags
    assert "gradients/embedding_carrier/embeddings" in tags
    assert any(tag.startswith("embedding_carrier/embeddings") for tag in tags)


@pytest.mark.parametrize(("task", "output", "width"), [("multiclass", "probabilities", 3), ("regression", "value", 1)])
def test_other_tasks_train_and_serve(
    task: str, output: str, width: int, flights_for: Callable[[str], Any], fn_args: FnArgs, tmp_path: Path
) -> None:
    flights = flights_for(task)
    run_fn(fn_args(flights, task, epochs_cold=2, learning_rate=0.05))
    history = _record(tmp_path / task)["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    served = tf.saved_model.load(str(tmp_path / task / SERVING_FOLDER))
    predictions = served.signatures["serving_default"](examples=tf.constant(flights.serialized[:5]))[output].numpy()
    assert predictions.shape == (5, width)
    if task == "multiclass":
        np.testing.assert_allclose(predictions.sum(axis=1), 1.0, atol=1e-5)


def test_train_split_without_files_is_refused(flights: Any, fn_args: FnArgs, tmp_path: Path) -> None:
    args = fn_args(flights, "empty")
    args.train_files = [str(tmp_path / "nowhere" / "*")]
    with pytest.raises(DataError, match=r"The train split has no files.*nowhere"):
        run_fn(args)


def test_train_split_too_small_to_hold_out_is_refused(
    flights: Any, fn_args: FnArgs, tmp_path: Path, write_tfrecords: Callable[..., Path], make_examples: Any
) -> None:
    args = fn_args(flights, "small")
    examples = make_examples(4, late=[1]) + make_examples(1, late=[0])
    args.train_files = [str(write_tfrecords(tmp_path / "small.gz", examples))]
    with pytest.raises(DataError, match=r"too small to hold out one in 10.*num_examples=5"):
        run_fn(args)


def test_loss_that_explodes_is_refused(flights_for: Callable[[str], Any], fn_args: FnArgs, tmp_path: Path) -> None:
    args = fn_args(flights_for("regression"), "nan", learning_rate=1e25, clipnorm=None)
    with pytest.raises(TrainingError, match=r"The loss became (inf|nan) at step \d+ of epoch 1.*Lower learning_rate"):
        run_fn(args)
    assert not (tmp_path / "nan" / SERVING_FOLDER).exists()


def test_warm_run_without_base_model_is_refused(flights: Any, fn_args: FnArgs, base_model: Path) -> None:
    args = fn_args(flights, "warm", base_model)
    args.base_model = None
    with pytest.raises(TrainingError, match="A warm start has no base model"):
        run_fn(args)


def test_corrupted_base_model_is_refused(flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base_model, broken)
    args = fn_args(flights, "warm", broken)
    content = bytearray((broken / TRAINING_FOLDER / KERAS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / TRAINING_FOLDER / KERAS_FILE).write_bytes(content)
    with pytest.raises(TrainingError, match=r"corrupted or was exchanged. Expected digest"):
        run_fn(args)


def test_base_model_corrupt_from_the_start_is_refused(
    flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base_model, broken)
    (broken / TRAINING_FOLDER / KERAS_FILE).write_bytes(b"no model")
    with pytest.raises(TrainingError, match=r"The base model in .* is corrupted. Expected a readable"):
        run_fn(fn_args(flights, "warm", broken))


def test_base_model_of_another_config_is_refused(flights: Any, fn_args: FnArgs, base_model: Path) -> None:
    with pytest.raises(TrainingError, match=r"The config changed.*hidden_units changed from \(64, 32\) to \(16, 32\)"):
        run_fn(fn_args(flights, "warm", base_model, model={"hidden_units": (16, 32)}))


def test_base_model_of_another_transform_graph_is_refused(
    flights: Any, fn_args: FnArgs, base_model: Path, tmp_path: Path
) -> None:
    args = fn_args(flights, "warm", base_model)
    shutil.copytree(flights.graph, tmp_path / "graph")
    vocabulary = next((tmp_path / "graph").rglob("assets/carrier"))
    vocabulary.write_text("\n".join(reversed(vocabulary.read_text().split())))
    args.transform_graph_path = str(tmp_path / "graph")
    with pytest.raises(TrainingError, match=r"does not fit the base model.*'carrier'.*order.*or plan a cold start"):
        run_fn(args)
