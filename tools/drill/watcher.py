"""Looks at the serving folder as TensorFlow Serving does, over and over, while everything else is broken."""

import threading
from pathlib import Path

from core.errors import PipelineError
from ledger.ledger import Ledger
from pipeline.config import Config
from tools.drill.facts import visible_versions

# TensorFlow Serving looks once a second; a half-written model of a second's life would be found at this pace.
POLL_SECONDS = 0.01
Listing = frozenset[tuple[str, int]]


class ServingWatcher:
    """Remembers every content that a visible version ever had, and which versions were visible unpromoted.

    Args:
        config: Whose serving folder.

    Attributes:
        contents: For every version the different sets of (file, size in bytes) that were seen under its number.
        unpromoted: Versions that were visible although the ledger had never made them champion.
        num_looks: How often it looked.
    """

    def __init__(self, config: Config) -> None:
        self.contents: dict[int, set[Listing]] = {}
        self.unpromoted: set[int] = set()
        self.num_looks = 0
        self._config = config
        self._promoted: set[int] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time and end."""
        self._stopped.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Look once."""
        self.num_looks += 1
        for version in visible_versions(self._config.serving_path):
            listing = list_files(self._config.serving_path / str(version))
            if listing is None:
                continue
            self.contents.setdefault(version, set()).add(listing)
            if version not in self._promoted and version not in self.unpromoted:
                self._check_promoted(version)

    def _watch(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            self.look()

    def _check_promoted(self, version: int) -> None:
        # The champion moves before its version is exposed, so whatever is visible is in the moves by now.
        try:
            with Ledger.open(self._config.ledger_url, self._config.name) as ledger:
                self._promoted = {move.version for move in ledger.champion_moves()}
        except PipelineError:
            # The ledger is on the full disk, say; the next look asks again.
            return
        if version not in self._promoted:
            self.unpromoted.add(version)


def list_files(folder: Path) -> Listing | None:
    """Return the files below a folder with their sizes; None if it went away meanwhile."""
    try:
        files = frozenset(
            (str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file()
        )
    except OSError:
        return None
    # A folder that is renamed during the walk may look empty or half empty without an error.
    return files if folder.is_dir() else None
