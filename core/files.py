"""Files and folders that appear whole or not at all. Nothing here knows what is in them."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from core.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8, as `write_bytes_atomically` does."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the whole file, the one before it, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent, _make_file) as temporary:
        temporary.write_bytes(content)
        sync_path(temporary)
        # It is made as 0600; a reader under another user must be able to read the result.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


@contextmanager
def folder_written_atomically(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success rename it to `path`, on failure remove it.

    What was written is on the disk before the rename is, so that a power cut leaves no half folder under the name.

    Args:
        path: The folder that appears.
        replace: Take the place of what `path` is until then, for names that nobody reads: for a moment there is
            neither. Without it what is visible is never overwritten.

    Raises:
        FileExistsError: `path` already exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent, _make_folder) as temporary:
        yield temporary
        _sync_tree(temporary)
        if replace:
            discard_folder(path)
        elif path.exists():
            raise FileExistsError(f"{path} already exists and is never overwritten.")
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
        sync_path(path.parent)


def discard_folder(path: Path) -> None:
    """Remove a folder so that nobody sees half of it; nothing happens where there is none."""
    if not path.exists():
        return
    # Another process may be quicker.
    with suppress(FileNotFoundError):
        doomed = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        try:
            os.replace(path, doomed)
        finally:
            shutil.rmtree(doomed)


def abandoned_temporaries(folder: Path) -> list[Path]:
    """Return what a killed process left unfinished directly in `folder`; what a living one still writes is not it."""
    with path_locked(folder):
        return [leftover for leftover in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")) if _is_abandoned(leftover)]


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process left unfinished directly in `folder`."""
    for leftover in abandoned_temporaries(folder):
        _remove(leftover)


def sync_path(path: Path) -> None:
    """Have the file, or the names in the folder, on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def path_locked(path: Path) -> Iterator[None]:
    """Keep others of this host that lock the same file or folder out of the block.

    A lock ends with its process, whatever kills it: `sweep_temporaries` tells unfinished from abandoned by it, without
    clocks or process ids. Where the file system has no such locks, nobody is kept out and nothing is swept.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            # Closing alone would leave it to a child that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file that is never modified in place, or copy it where the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def path_inside(root: Path, relative: str) -> Path:
    """Join `relative` to `root` and refuse to leave it, through `..`, an absolute path or a link.

    Raises:
        ConfigError: the path would lie outside `root`.
    """
    joined = (root / relative).resolve()
    if not joined.is_relative_to(root.resolve()):
        raise ConfigError(
            f"Path {relative!r} leaves its root. Expected a path inside {str(root)!r}; received {str(joined)!r}. "
            "Use a relative path without '..'."
        )
    return joined


@contextmanager
def _temporary(folder: Path, make: Callable[[Path], Path]) -> Iterator[Path]:
    """Yield something new in `folder` that no sweeper takes for abandoned; whatever fails, it is removed."""
    with ExitStack() as claim:
        # A sweeper waits: between making and locking it would look abandoned. Inside a temporary folder nobody sweeps,
        # and its writer, who has it locked, would wait for itself.
        with nullcontext() if folder.name.startswith(TEMPORARY_PREFIX) else path_locked(folder):
            temporary = make(folder)
            claim.enter_context(path_locked(temporary))
        try:
            yield temporary
        except BaseException:
            _remove(temporary)
            raise


def _make_file(folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    os.close(descriptor)
    return Path(name)


def _make_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Somebody writes it, or the file system cannot say.
        return False
    finally:
        os.close(descriptor)
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync_path(path)
    sync_path(folder)
