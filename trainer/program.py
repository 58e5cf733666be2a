"""The program in a SavedModel, apart from the numbers in its variables: written anew, or copied where it is the same.

Tracing the signatures and writing their graphs takes seconds, the numbers milliseconds. A warm-started model under its
base model's transform graph computes what its base computes, with other numbers. What is the same is decided by all
that goes into it, not by comparing results.
"""

import logging
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.saved_model import fingerprinting_utils

import schemas
from core.digests import digest_of_file, digest_of_folder, digest_of_json
from schemas.training import ModelShape
from trainer.training_record import ServingProgram

PROGRAM_FILE = "saved_model.pb"
ASSETS_FOLDER = "assets"
VARIABLES_PREFIX = "variables/variables"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_LOG = logging.getLogger(__name__)


def made_of(transform_graph_digest: str, shape: ModelShape, dtype_policy: str = "float32") -> str:
    """Return the digest of all that a SavedModel's program is made of, what its layers compute in included."""
    parts = [_code_digest(), transform_graph_digest, shape.model_dump(mode="json"), dtype_policy]
    # A user's own function may call anything; that it is the same is known only within a process.
    own = [_process_token()] if shape.model.kind == "custom" else []
    return digest_of_json([*parts, *own])


def program_in(folder: Path, parts: str) -> ServingProgram:
    """Return the identity of the program in a SavedModel folder that is made of `parts`."""
    return ServingProgram(made_of=parts, digest=_files_digest(folder))


def copied_program(source: Path, program: ServingProgram, folder: Path, variables: dict[str, Any]) -> bool:
    """Make `folder` the SavedModel in `source` with other numbers in its variables, if that is possible.

    Args:
        source: SavedModel that has this program by its record.
        program: The program that the new model needs.
        folder: Empty.
        variables: TensorFlow variables by their name in the checkpoint, without its ending.

    Returns:
        False, and nothing is written, if files of `source` are missing or were changed, or if a variable is not the
        one that the program has.
    """
    try:
        if _files_digest(source) != program.digest:
            _LOG.warning("The SavedModel in %s was changed; the new one is made from scratch.", source)
            return False
        others = _other_values(source, variables)
    except (OSError, tf.errors.OpError) as error:
        _LOG.warning("The SavedModel in %s cannot be read (%s); the new one is made from scratch.", source, error)
        return False
    if others is None:
        return False
    shutil.copyfile(source / PROGRAM_FILE, folder / PROGRAM_FILE)
    if (source / ASSETS_FOLDER).is_dir():
        shutil.copytree(source / ASSETS_FOLDER, folder / ASSETS_FOLDER)
    (folder / VARIABLES_PREFIX).parent.mkdir()
    values = {name + _VALUE_SUFFIX: variable.read_value() for name, variable in variables.items()} | others
    tf.raw_ops.SaveV2(
        prefix=str(folder / VARIABLES_PREFIX),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    fingerprinting_utils.write_fingerprint(str(folder))
    return True


def _other_values(source: Path, variables: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the checkpoint holds beside the variables, or None if it does not hold exactly those."""
    reader = tf.train.load_checkpoint(str(source / VARIABLES_PREFIX))
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    others = {name: tf.constant(reader.get_tensor(name)) for name in shapes if name == _OBJECT_GRAPH}
    expected = {
        name + _VALUE_SUFFIX: (variable.shape.as_list(), variable.dtype) for name, variable in variables.items()
    }
    received = {name: (shape, types[name]) for name, shape in shapes.items() if name not in others}
    return others if expected == received else None


def _files_digest(folder: Path) -> str:
    return digest_of_json([digest_of_file(folder / PROGRAM_FILE), digest_of_folder(folder / ASSETS_FOLDER)])


@cache
def _code_digest() -> str:
    """Return the digest of the code that makes programs: this package and the vocabulary, and the libraries."""
    folders = [Path(__file__).parent, *map(Path, schemas.__path__)]
    versions = [tf.__version__, keras.__version__, tft.__version__]
    return digest_of_json([*(digest_of_folder(folder, "*.py") for folder in folders), *versions])


@cache
def _process_token() -> str:
    return uuid4().hex
