"""A run in a process that has run before ends like one in a new process, and traces and loads nothing again."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from core.errors import TrainingError
from schemas.model_layout import KERAS_FILE, SERVING_FOLDER, TRAINING_FOLDER
from schemas.training import TrainerRequest, TrainingOptions
from trainer import reuse
from trainer.program import PROGRAM_FILE
from trainer.run_fn import run_fn
from trainer.warm_start import read_base_model

# Dropout, so that random numbers would betray a process that has drawn some before.
MODEL = {"kind": "wide_deep", "hidden_units": (8,), "dropout": 0.3}


@pytest.fixture(scope="module")
def base(flights: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Model artifact's folder, trained cold, by a process that keeps nothing of it."""
    folder = tmp_path_factory.mktemp("base")
    run_fn(_fn_args(flights, folder, base=None, start="cold"))
    reuse.forget()
    return folder


def _fn_args(flights: Any, folder: Path, base: Path | None, start: Any) -> SimpleNamespace:
    request = TrainerRequest(
        feature_set=flights.feature_set,
        options=TrainingOptions.model_validate({"model": MODEL, "batch_size": 100, "epochs_cold": 1, "epochs_warm": 1}),
        initialisation=start,
        line_length=0 if base is None else 1,
        checkpoint_dir=str(folder / "checkpoints"),
    )
    return SimpleNamespace(
        custom_config={"request": request.model_dump_json()},
        train_files=[flights.files],
        transform_graph_path=str(flights.graph),
        base_model=None if base is None else str(base / SERVING_FOLDER),
        serving_model_dir=str(folder / SERVING_FOLDER),
        model_run_dir=str(folder / "logs"),
    )


def _numbers(model_folder: Path) -> list[Any]:
    model = keras.saving.load_model(model_folder / TRAINING_FOLDER / KERAS_FILE)
    return [np.asarray(variable) for variable in (*model.weights, *model.optimizer.variables)]


def test_kept_things_change_no_number_and_are_made_once(flights: Any, base: Path, tmp_path: Path) -> None:
    def run(name: str, start: str) -> list[Any]:
        run_fn(_fn_args(flights, tmp_path / name, base, start))
        return _numbers(tmp_path / name)

    warm, perturbed = run("fresh", "warm"), run("kept", "shrink_perturb")
    (learner,) = reuse._learners._values.values()
    graph = reuse.kept_graph(flights.graph, flights.feature_set)
    again = run("kept too", "warm")
    assert [function.experimental_get_tracing_count() for function in learner._traces.values()] == [1, 1]
    assert list(reuse._learners._values.values()) == [learner]
    assert reuse.kept_graph(flights.graph, flights.feature_set) is graph
    reuse.forget()
    perturbed_again = run("fresh too", "shrink_perturb")
    for one, two in ((warm, again), (perturbed, perturbed_again)):
        for array, other in zip(one, two, strict=True):
            np.testing.assert_array_equal(array, other)
    assert not np.array_equal(warm[0], perturbed[0])
    program = (base / SERVING_FOLDER / PROGRAM_FILE).read_bytes()
    assert program == (tmp_path / "fresh too" / SERVING_FOLDER / PROGRAM_FILE).read_bytes()


def test_what_was_trained_last_is_not_read_again(flights: Any, base: Path, tmp_path: Path) -> None:
    run_fn(_fn_args(flights, tmp_path, base, "warm"))
    kept = reuse.kept_base_model.read(tmp_path / TRAINING_FOLDER, None)
    assert kept is reuse.kept_base_model.read(tmp_path / TRAINING_FOLDER, None)
    read = read_base_model(tmp_path / TRAINING_FOLDER, None)
    assert kept.record == read.record
    assert kept.analysis == read.analysis
    for one, two in ((kept.state.weights, read.state.weights), (kept.state.slots, read.state.slots)):
        assert one.keys() == two.keys()
        for path, array in one.items():
            np.testing.assert_array_equal(array, two[path])


def test_graph_whose_folder_went_away_is_loaded_again(flights: Any, tmp_path: Path) -> None:
    reuse.forget()
    shutil.copytree(flights.graph, tmp_path / "collected")
    first = reuse.kept_graph(tmp_path / "collected", flights.feature_set)
    shutil.rmtree(tmp_path / "collected")
    second = reuse.kept_graph(flights.graph, flights.feature_set)
    assert second is not first
    assert second.digest == first.digest
    assert second.vocabulary("carrier")


def test_changed_base_model_is_refused_though_it_is_kept(base: Path) -> None:
    reuse.kept_base_model.read(base / TRAINING_FOLDER, None)
    with pytest.raises(TrainingError, match=r"corrupted or was exchanged. Expected digest ab; received"):
        reuse.kept_base_model.read(base / TRAINING_FOLDER, "ab")
