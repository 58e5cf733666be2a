"""A copied program predicts what a traced one predicts, with no number left of the model that it came from."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas.model_layout import SERVING_FOLDER, TRAINING_FOLDER
from schemas.training import ModelOptions, ModelShape, TrainingOptions
from trainer.export import Template, write_serving_folder
from trainer.model import build_model
from trainer.model_state import assign_state, state_of
from trainer.objective import AnchoredModel
from trainer.program import PROGRAM_FILE, VARIABLES_PREFIX, copied_program, made_of, program_in
from trainer.signatures import served_variables
from trainer.training_record import read_training_record
from trainer.transform_graph import TransformGraph


@pytest.fixture(scope="module")
def template(base_model: Path) -> Template:
    """The SavedModel of the base model, with the program that its record names."""
    record = read_training_record(base_model / TRAINING_FOLDER)
    return Template(base_model / SERVING_FOLDER, record.serving_program)


@pytest.fixture(scope="module")
def shape(flights: Any) -> ModelShape:
    """What the base model was built from."""
    return ModelShape(feature_set=flights.feature_set, model=ModelOptions())


@pytest.fixture(scope="module")
def other(flights: Any) -> AnchoredModel:
    """A model of the same shape that has no number in common with the base model."""
    model = build_model(flights.feature_set, TrainingOptions())
    random = np.random.default_rng(1)
    state = state_of(model)
    for array in state.weights.values():
        array[...] = random.normal(scale=0.3, size=array.shape)
    assign_state(model, state)
    return model


@pytest.fixture(scope="module")
def folders(
    flights: Any, other: AnchoredModel, shape: ModelShape, template: Template, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The other model's SavedModel, written in full and with the base model's program."""
    graph = TransformGraph(flights.graph, flights.feature_set)
    root = tmp_path_factory.mktemp("served")
    for name, given in (("full", None), ("copied", template)):
        write_serving_folder(root / name, other, graph, shape, template=given)
    return {name: root / name for name in ("full", "copied")}


def _predictions(folder: Path, serialized: list[bytes]) -> Any:
    served = tf.saved_model.load(str(folder))
    return served.signatures["serving_default"](examples=tf.constant(serialized))["probability"].numpy()


def test_copied_program_predicts_bit_by_bit_what_a_traced_one_does(
    folders: dict[str, Path], template: Template, flights: Any
) -> None:
    full, copied = (_predictions(folder, flights.serialized) for folder in folders.values())
    np.testing.assert_array_equal(full, copied)
    assert not np.allclose(copied, _predictions(template.folder, flights.serialized))


def test_every_number_is_the_new_model_s(folders: dict[str, Path], template: Template) -> None:
    assert (folders["copied"] / PROGRAM_FILE).read_bytes() == (template.folder / PROGRAM_FILE).read_bytes()
    full, copied = (tf.train.load_checkpoint(str(folder / VARIABLES_PREFIX)) for folder in folders.values())
    assert full.get_variable_to_shape_map() == copied.get_variable_to_shape_map()
    assert full.get_variable_to_dtype_map() == copied.get_variable_to_dtype_map()
    values = [name for name in full.get_variable_to_shape_map() if name.startswith("model_variables/")]
    assert len(values) > 10
    for name in values:
        np.testing.assert_array_equal(full.get_tensor(name), copied.get_tensor(name))


def test_servers_load_it(folders: dict[str, Path], template: Template, flights: Any) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folders["copied"]))
        signature = loaded.signature_def["serving_default"]
        names = signature.inputs["examples"].name, signature.outputs["probability"].name
        received = session.run(names[1], {names[0]: flights.serialized})
    np.testing.assert_allclose(received, _predictions(folders["full"], flights.serialized), atol=1e-6)
    base, new = (tf.saved_model.experimental.read_fingerprint(str(f)) for f in (template.folder, folders["copied"]))
    assert new.saved_object_graph_hash == base.saved_object_graph_hash
    assert new.checkpoint_hash != base.checkpoint_hash


def test_damaged_program_is_not_copied(template: Template, other: AnchoredModel, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "trainer.program")
    assert template.program is not None
    shutil.copytree(template.folder, tmp_path / "damaged")
    with (tmp_path / "damaged" / PROGRAM_FILE).open("ab") as file:
        file.write(b"more")
    (tmp_path / "new").mkdir()
    variables = served_variables(other)
    assert not copied_program(tmp_path / "damaged", template.program, tmp_path / "new", variables)
    assert "was changed; the new one is made from scratch" in caplog.text
    assert not copied_program(tmp_path / "nowhere", template.program, tmp_path / "new", variables)
    assert not list((tmp_path / "new").iterdir())


def _without_the_first(variables: dict[str, Any]) -> dict[str, Any]:
    return dict(list(variables.items())[1:])


def _with_one_more(variables: dict[str, Any]) -> dict[str, Any]:
    return {**variables, "model_variables/99": tf.Variable(0.0)}


def _of_another_type(variables: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(variables))
    return {**variables, first: tf.Variable(tf.cast(variables[first], tf.float64))}


def _of_another_shape(variables: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(variables))
    return {**variables, first: tf.Variable(variables[first][tf.newaxis])}


@pytest.mark.parametrize("change", [_without_the_first, _with_one_more, _of_another_type, _of_another_shape])
def test_other_variables_need_another_program(
    change: Callable[[dict[str, Any]], dict[str, Any]], template: Template, other: AnchoredModel, tmp_path: Path
) -> None:
    assert template.program is not None
    assert not copied_program(template.folder, template.program, tmp_path, change(served_variables(other)))
    assert not list(tmp_path.iterdir())


def test_a_program_is_made_of_graph_and_shape(shape: ModelShape, template: Template, flights: Any) -> None:
    assert template.program is not None
    digest = TransformGraph(flights.graph, flights.feature_set).digest
    parts = made_of(digest, shape)
    assert program_in(template.folder, parts) == template.program
    wider = shape.model_copy(update={"model": ModelOptions(hidden_units=(65, 32))})
    own = shape.model_copy(update={"model": ModelOptions(kind="custom", function="a:b")})
    assert len({parts, made_of("another graph", shape), made_of(digest, wider), made_of(digest, own)}) == 4
    assert made_of(digest, own) == made_of(digest, own)
