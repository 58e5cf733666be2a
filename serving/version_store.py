"""Versions of one model on disk, as TensorFlow Serving watches them. Which of them is the champion, the ledger says.

A server takes the highest number it sees. So *the highest visible version is the champion*: what is above it, staged or
rolled back from, is hidden under a name that no server takes for a version.
"""

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ServingError, UnavailableError
from core.files import (
    TEMPORARY_PREFIX,
    discard_folder,
    folder_written_atomically,
    path_locked,
    sweep_temporaries,
    sync_path,
)
from core.transience import why_transient

HIDDEN_PREFIX = ".hidden-"
_SAVED_MODEL_FILE = "saved_model.pb"


def stage(serving_folder: Path, base: Path, version: int) -> Path:
    """Copy a SavedModel beside the versions, whole and hidden, where `expose` finds it.

    Again after a kill it takes the place of what was staged; a version that is visible already is left as it is.

    Args:
        serving_folder: The SavedModel: a model artifact's `Format-Serving`.
        base: `{root}/{model name}`, what TensorFlow Serving calls the base path; made where it is missing.
        version: A positive number that no other model has.

    Returns:
        The folder that the version will be served from.

    Raises:
        ServingError: the version is not positive or is another model's, the folder holds no SavedModel, or cannot be
            copied.
        UnavailableError: the disk is full, or the folder went away.
    """
    _check_stageable(serving_folder, version)
    target = base / str(version)
    with _named_failures(base, f"Version {version} could not be written to {str(base)!r}"):
        base.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(base)
        if not target.exists():
            with folder_written_atomically(_hidden(base, version), replace=True) as temporary:
                shutil.copytree(serving_folder, temporary, dirs_exist_ok=True)
        elif _differing_files(serving_folder, target):
            raise ServingError(
                f"Version {version} is in {str(base)!r} already, and a pushed version never changes. Expected "
                f"a version that is not among {versions(base)}. Take the next number from the ledger."
            )
    return target


def expose(base: Path, version: int) -> None:
    """Make `version` the highest that a server sees; nothing changes where it is that already.

    Only renames, each of which leaves the highest visible version a whole one: `version` appears before those above it
    go, and of these the highest goes last, so that no server ever loads one in between.

    Args:
        base: The base path.
        version: A version that was staged or exposed before.

    Raises:
        ServingError: the version is not there or holds no SavedModel, or the folder cannot be changed.
        UnavailableError: the folder went away.
    """
    with _named_failures(base, f"Version {version} could not be made visible in {str(base)!r}"), path_locked(base):
        folder = _check_loadable(base, version)
        if folder != base / str(version):
            os.rename(folder, base / str(version))
        for higher in versions(base):
            if higher > version:
                discard_folder(_hidden(base, higher))
                os.rename(base / str(higher), _hidden(base, higher))
        sync_path(base)


def restore(base: Path, version: int, restore_from: Path) -> bool:
    """Bring back what is missing or damaged of a version, without changing what servers see of the others.

    Args:
        base: The base path.
        version: A version that was pushed; it comes back hidden where nothing is left of it.
        restore_from: `Format-Serving` of its Model artifact.

    Returns:
        Whether anything was missing.

    Raises:
        ServingError: neither the version nor the artifact is whole, or the folder cannot be changed.
        UnavailableError: the disk is full, or the folder went away.
    """
    folder = locate(base, version)
    if folder is None:
        stage(restore_from, base, version)
        return True
    if not _is_loadable(restore_from):
        _check_loadable(base, version)
        return False
    with _named_failures(base, f"Version {version} could not be restored in {str(base)!r}"):
        return _mend(folder, restore_from, base)


def reconcile(base: Path, champion_version: int, restore_from: Path) -> bool:
    """Make the folder what the ledger says, whatever happened to it: the champion whole, and the highest visible one.

    Args:
        base: The base path; where it is missing it appears with the champion in it.
        champion_version: The champion.
        restore_from: `Format-Serving` of its Model artifact.

    Returns:
        Whether files had to be restored.

    Raises:
        ServingError: the champion is neither whole in the folder nor in the artifact, or the folder cannot be changed.
        UnavailableError: the disk is full, or the folder went away.
    """
    if not base.exists() and _is_loadable(restore_from):
        # A server unloads its model when the base path is empty, but not while it is missing.
        failing = f"Version {champion_version} could not be restored in {str(base)!r}"
        with _named_failures(base, failing), folder_written_atomically(base) as temporary:
            shutil.copytree(restore_from, temporary / str(champion_version))
        return True
    is_restored = restore(base, champion_version, restore_from)
    expose(base, champion_version)
    return is_restored


def versions(base: Path) -> list[int]:
    """Return the visible versions below `base`, oldest first; none where the folder does not exist."""
    return _numbers(base, "")


def hidden_versions(base: Path) -> list[int]:
    """Return the versions below `base` that no server sees, oldest first."""
    return _numbers(base, HIDDEN_PREFIX)


def locate(base: Path, version: int) -> Path | None:
    """Return where a version lies, visible or hidden, or None."""
    return next((folder for folder in (base / str(version), _hidden(base, version)) if folder.is_dir()), None)


def remove(base: Path, version: int) -> None:
    """Remove a version that does not serve, visible or hidden; nothing happens where there is none.

    Raises:
        ServingError: it is the highest visible version, or cannot be removed.
        UnavailableError: the folder went away.
    """
    if not base.exists():
        return
    with _named_failures(base, f"Version {version} could not be removed from {str(base)!r}"), path_locked(base):
        if versions(base)[-1:] == [version]:
            raise ServingError(
                f"Version {version} serves, so it is not removed. Expected a version below the highest visible one; "
                f"received version={version} of {versions(base)}. Promote another model first."
            )
        discard_folder(base / str(version))
        discard_folder(_hidden(base, version))


def _hidden(base: Path, version: int) -> Path:
    return base / f"{HIDDEN_PREFIX}{version}"


def _numbers(base: Path, prefix: str) -> list[int]:
    if not base.is_dir():
        return []
    names = [entry.name.removeprefix(prefix) for entry in base.iterdir() if entry.name.startswith(prefix)]
    return sorted(int(name) for name in names if name.isdecimal() and (base / f"{prefix}{name}").is_dir())


def _is_loadable(folder: Path) -> bool:
    return (folder / _SAVED_MODEL_FILE).is_file()


def _check_loadable(base: Path, version: int) -> Path:
    folder = locate(base, version)
    if folder is None or not _is_loadable(folder):
        raise ServingError(
            f"Version {version} is not whole in {str(base)!r}. Expected a folder with {_SAVED_MODEL_FILE} among the "
            f"visible versions {versions(base)} and the hidden ones {hidden_versions(base)}. Run `perennial model "
            f"promote {version}`, which restores it from its Model artifact if that is there."
        )
    return folder


def _check_stageable(serving_folder: Path, version: int) -> None:
    if version < 1:
        raise ServingError(
            f"Version {version} cannot be pushed. Expected a positive number; received version={version!r}. "
            "Take the next number from the ledger."
        )
    if not _is_loadable(serving_folder):
        raise ServingError(
            f"{str(serving_folder)!r} cannot be pushed. Expected a SavedModel; received a folder without "
            f"{_SAVED_MODEL_FILE}. Pass the Format-Serving folder of a trained model."
        )


def _differing_files(source: Path, target: Path) -> list[Path]:
    """Return the files of `source`, relative, that `target` lacks or has otherwise; the graph comes last.

    Size and time of a file tell, since copies keep them; only where they differ are the bytes compared.
    """
    files = [file.relative_to(source) for file in sorted(source.rglob("*")) if file.is_file()]
    differing = [
        name for name in files if not (target / name).is_file() or not filecmp.cmp(source / name, target / name)
    ]
    return sorted(differing, key=lambda name: name.name == _SAVED_MODEL_FILE)


def _mend(folder: Path, source: Path, base: Path) -> bool:
    """Replace what differs in place and file by file: the version never disappears, and a server keeps what it has."""
    differing = _differing_files(source, folder)
    for name in differing:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=base) as temporary:
            copy = Path(shutil.copy2(source / name, Path(temporary) / name.name))
            sync_path(copy)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, folder / name)
    return bool(differing)


@contextmanager
def _named_failures(base: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError | shutil.Error) and not base.exists()
        if is_gone or why_transient(error) is not None:
            raise UnavailableError(
                f"{what}: {error}. Expected a folder that stays, on a disk with room. What served before still does; "
                "free some room or bring the folder back."
            ) from error
        raise ServingError(
            f"{what}: {error}. Expected a folder that this user may write. What was there before is unchanged; run "
            "again when that is mended."
        ) from error
