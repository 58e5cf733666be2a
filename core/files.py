"""Files and folders that appear whole or not at all. Nothing here knows what is in them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the whole file, the one before it, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file 0600; a reader under another user must be able to read the result.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success rename it to `path`, on failure remove it.

    The rename fails if `path` exists and is not empty: what is visible is never overwritten.

    Raises:
        FileExistsError: `path` already exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    try:
        yield temporary
        if path.exists():
            raise FileExistsError(f"{path} already exists and is never overwritten.")
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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
