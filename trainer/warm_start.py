"""A model that starts from a base model's weights and optimizer, or a sentence about why it cannot."""

from pathlib import Path

import keras

from core.digests import digest_of_folder
from core.errors import TrainingError
from schemas.model_layout import KERAS_FILE
from trainer.training_record import TrainingRecord, read_training_record

MAX_RENDERED_DIFFERENCES = 10
_COLD_START = "Plan a cold start, or undo the change in the config."


def carry_over(model: keras.Model, base_folder: Path, base_digest: str | None, transform_digest: str) -> None:
    """Copy weights, optimizer slots and step count of the base model into `model`, which is built from today's config.

    Rebuilding rather than continuing the loaded object lets options such as the learning rate or dropout change.

    Args:
        model: Compiled, with its optimizer built.
        base_folder: `Format-Training` of the base model.
        base_digest: Digest that the folder had when it was trained, if known.
        transform_digest: Digest of the transform graph that `model` will be trained under.

    Raises:
        TrainingError: the base model is corrupt, or config or transform graph changed since it was trained.
    """
    record = _read_verified(base_folder, base_digest)
    if record.transform_graph_digest != transform_digest:
        raise TrainingError(
            f"The base model in {base_folder} was trained under another transform graph, so its weights would meet "
            f"other vocabularies and scales. Expected digest {record.transform_graph_digest}; received "
            f"{transform_digest}. Plan a cold start, or import the base model's transform graph."
        )
    base = _load(base_folder)
    _copy("weights", base.weights, model.weights)
    _copy("optimizer variables", base.optimizer.variables, model.optimizer.variables)


def _read_verified(folder: Path, expected_digest: str | None) -> TrainingRecord:
    digest = digest_of_folder(folder) if folder.is_dir() else "no folder"
    if expected_digest is not None and digest != expected_digest:
        raise TrainingError(
            f"The base model in {folder} is corrupted or was exchanged. Expected digest {expected_digest}; received "
            f"{digest}. Restore the folder, or plan a cold start."
        )
    try:
        return read_training_record(folder)
    except (OSError, ValueError) as error:
        raise TrainingError(_corrupted(folder, error)) from error


def _load(folder: Path) -> keras.Model:
    try:
        return keras.saving.load_model(folder / KERAS_FILE, safe_mode=True)
    # Keras raises whatever zip, JSON or HDF5 raise.
    except Exception as error:
        raise TrainingError(_corrupted(folder, error)) from error


def _corrupted(folder: Path, error: Exception) -> str:
    return (
        f"The base model in {folder} is corrupted. Expected a readable training folder; received "
        f"{type(error).__name__}: {error}. Restore the folder, or plan a cold start."
    )


def _copy(what: str, base: list[keras.Variable], current: list[keras.Variable]) -> None:
    old = {variable.path: variable for variable in base}
    new = {variable.path: variable for variable in current}
    different = sorted(
        path
        for path in old.keys() | new.keys()
        if path not in old or path not in new or tuple(old[path].shape) != tuple(new[path].shape)
    )
    if different:
        shown = {path: (_shape(old.get(path)), _shape(new.get(path))) for path in different[:MAX_RENDERED_DIFFERENCES]}
        raise TrainingError(
            f"The config changed since the base model was trained: {len(different)} {what} differ. Expected equal "
            f"shapes; received, as base model's and today's: {shown}. {_COLD_START}"
        )
    for path, variable in new.items():
        variable.assign(old[path])


def _shape(variable: keras.Variable | None) -> list[int] | None:
    return None if variable is None else list(variable.shape)
