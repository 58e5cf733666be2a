"""Where a source's files lie: this machine's folders, or whatever TensorFlow's gfile reads (`gs://`, `s3://`, `hdfs://`).

TensorFlow is imported only for the latter. Which files belong to which span is in `patterns.py`.
"""

import glob
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from core.errors import ConfigError, DataError, UnavailableError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
# One file's name, time of its last change in nanoseconds, and size in bytes: another one means another content.
FileStamp = tuple[str, int, int]


class FileSystem(Protocol):
    """What finding and fetching files needs."""

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match, `*` and `?` within one folder level."""

    def stamp(self, name: str) -> FileStamp:
        """Return what changes when the file does."""

    def local_copy(self, name: str, folder: Path) -> Path:
        """Return the file on this machine; what must be fetched for that goes into `folder`."""


class LocalFiles:
    """The folders of this machine."""

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match."""
        return [name for name in glob.glob(pattern) if Path(name).is_file()]

    def stamp(self, name: str) -> FileStamp:
        """Return name, time and size."""
        try:
            status = Path(name).stat()
        except FileNotFoundError as error:
            raise _went_away(name, error) from error
        return name, status.st_mtime_ns, status.st_size

    def local_copy(self, name: str, folder: Path) -> Path:
        """Return the file itself."""
        return Path(name)


class RemoteFiles:
    """What TensorFlow's gfile reads. Failures other than an unknown scheme may pass, so they are `UnavailableError`."""

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match."""
        with _gfile(pattern) as gfile:
            return [name for name in gfile.glob(pattern) if not gfile.isdir(name)]

    def stamp(self, name: str) -> FileStamp:
        """Return name, time and size."""
        with _gfile(name) as gfile:
            status = gfile.stat(name)
        return name, status.mtime_nsec, status.length

    def local_copy(self, name: str, folder: Path) -> Path:
        """Fetch the file under its own name."""
        target = folder / name.rpartition("/")[2]
        with _gfile(name) as gfile:
            gfile.copy(name, str(target), overwrite=False)
        return target


def is_remote(name: str) -> bool:
    """Return whether a file name or pattern has a scheme, such as `gs://`.

    Example:
        >>> is_remote("gs://bucket/{SPAN}/*"), is_remote("data/{SPAN}/*")
        (True, False)
    """
    return _SCHEME.match(name) is not None


def file_system_of(name: str) -> FileSystem:
    """Return the file system that a name or a pattern is in."""
    return RemoteFiles() if is_remote(name) else LocalFiles()


@contextmanager
def local_copies(files: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, tuple[Path, ...]]]:
    """Yield the files of each split on this machine; what had to be fetched is gone after the block.

    Raises:
        UnavailableError: a file cannot be fetched now.
    """
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        copies = {}
        for split, names in files.items():
            # Files of one split may lie in several folders under the same name.
            folders = [Path(folder, split, f"{number:05d}") for number in range(len(names))]
            for each in folders:
                each.mkdir(parents=True)
            pairs = zip(names, folders, strict=True)
            copies[split] = tuple(file_system_of(name).local_copy(name, each) for name, each in pairs)
        yield copies


@contextmanager
def _gfile(name: str) -> Iterator[Any]:
    import tensorflow as tf

    try:
        yield tf.io.gfile
    except tf.errors.UnimplementedError as error:
        raise ConfigError(
            f"TensorFlow reads no such file system: {name!r}. Expected a scheme that it knows, e.g. gs://. "
            "Correct `ingest.source.patterns`, or install the plugin (tensorflow-io) that reads it."
        ) from error
    except tf.errors.NotFoundError as error:
        raise _went_away(name, error) from error
    except tf.errors.OpError as error:
        raise UnavailableError(
            f"{name!r} cannot be read now: {error.message} Expected a store that answers. Check network and "
            "credentials."
        ) from error


def _went_away(name: str, error: Exception) -> DataError:
    return DataError(
        f"File {name!r} went away while it was looked at. Expected the files of a span to stay ({error}). "
        "Put it back, or remove the rest of its span."
    )
