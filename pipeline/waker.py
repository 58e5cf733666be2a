"""Wakes the daemon when a span may have come, where the operating system tells of new files.

It only saves waiting for the next poll: what is missed here is found there, as on network file systems, whose other
clients nobody tells about.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from core.files import TEMPORARY_PREFIX
from ingest.patterns import literal_folder
from pipeline.config import Config
from schemas.ingestion import TfRecordOptions

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

# What makes a span or a file of a source whole. Opening, reading and each single write do not.
_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent, FileMovedEvent, DirMovedEvent, DirCreatedEvent]


class Waker(FileSystemEventHandler):
    """Watches folders of this machine.

    Args:
        folders: What to watch, with all that is below; those that are not there are left to polling.
        wake: Called from a thread of its own, often.
    """

    def __init__(self, folders: Iterable[Path], wake: Callable[[], None]) -> None:
        self._folders = tuple(folders)
        self._wake = wake
        self._observer: BaseObserver | None = None

    def start(self) -> str:
        """Begin to watch what can be watched; say what is, in a sentence."""
        folders = [folder for folder in self._folders if folder.is_dir()]
        if not folders:
            return "Nothing on this machine can be watched, so new spans are found by polling."
        observer = Observer()
        try:
            for folder in folders:
                observer.schedule(self, str(folder), recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            # Each folder costs one of the watches that the kernel has for a user (fs.inotify.max_user_watches).
            return f"New spans are found by polling, since watching {len(folders)} folder(s) failed: {error}."
        self._observer = observer
        names = ", ".join(str(folder) for folder in folders)
        return f"New spans are told of by {type(observer).__name__} below {names}, and found by polling."

    def stop(self) -> None:
        """End it."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def dispatch(self, event: FileSystemEvent) -> None:
        """Wake, unless the event is inside a folder that is still written under a temporary name."""
        path = event.dest_path or event.src_path
        if f"/{TEMPORARY_PREFIX}" not in str(path):
            self._wake()


def folders_to_watch(config: Config) -> tuple[Path, ...]:
    """Return where spans appear: our own folder, and the folders of a TFRecord source that are on this machine."""
    source = config.ingest.source
    patterns = source.patterns.model_dump().values() if isinstance(source, TfRecordOptions) else ()
    folders = [literal_folder(pattern, Path()) for pattern in patterns]
    return (config.spans_path, *sorted({folder for folder in folders if folder is not None}))
