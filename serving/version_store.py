"""Pushed versions of one model on disk, as TensorFlow Serving watches them. Which one serves, the ledger says."""

import shutil
from pathlib import Path

from core.errors import ServingError
from core.files import folder_written_atomically

_SAVED_MODEL_FILE = "saved_model.pb"


def publish(serving_folder: Path, base: Path, version: int) -> Path:
    """Copy a SavedModel to `base/version` so that a reader sees all of it or nothing.

    The copy is made under a temporary name that no reader takes for a version, and renamed at the end.

    Args:
        serving_folder: The SavedModel: a model artifact's `Format-Serving`.
        base: `{root}/{model name}`, what TensorFlow Serving calls the base path; made where it is missing.
        version: A positive number that was not pushed before.

    Returns:
        The folder of the version.

    Raises:
        ServingError: the version is not positive or exists, the folder holds no SavedModel, or cannot be copied.
    """
    if version < 1:
        raise ServingError(
            f"Version {version} cannot be pushed. Expected a positive number; received version={version!r}. "
            "Take the next number from the ledger."
        )
    if not (serving_folder / _SAVED_MODEL_FILE).is_file():
        raise ServingError(
            f"{str(serving_folder)!r} cannot be pushed. Expected a SavedModel; received a folder without "
            f"{_SAVED_MODEL_FILE}. Pass the Format-Serving folder of a trained model."
        )
    target = base / str(version)
    try:
        with folder_written_atomically(target) as temporary:
            shutil.copytree(serving_folder, temporary, dirs_exist_ok=True)
    except OSError as error:
        if target.exists():
            raise ServingError(
                f"Version {version} is in {str(base)!r} already, and a pushed version never changes. Expected "
                f"a version that is not among {versions(base)}. Take the next number from the ledger."
            ) from error
        raise ServingError(
            f"Version {version} could not be written to {str(base)!r}: {error}. Expected a folder that this user may "
            "write, on a disk with room. What was there before is unchanged; run again when that is mended."
        ) from error
    return target


def versions(base: Path) -> list[int]:
    """Return the pushed versions below `base`, oldest first; none where the folder does not exist."""
    if not base.is_dir():
        return []
    return sorted(int(entry.name) for entry in base.iterdir() if entry.name.isdecimal() and entry.is_dir())
