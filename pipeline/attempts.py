"""Which attempts at a run count against its span. Remembered even where a full disk lets nobody write it down."""

import os
from contextlib import suppress
from pathlib import Path

from core.errors import UnavailableError
from core.files import write_text_atomically
from ledger.ledger import Ledger

# One of the two lies in a run's folder. Going from one to the other is a rename, which a full disk still allows.
COUNTS_NAME = "attempt-counts"
FORGIVEN_NAME = "attempt-forgiven"


class Attempts:
    """Counts attempts in the ledger, and takes those back that something outside has broken.

    The ledger may lie on the very disk that is full. Then the next attempt, which finds room, tells it.

    Args:
        ledger: The ledger.
        runs_path: Folder of the runs' folders.
    """

    def __init__(self, ledger: Ledger, runs_path: Path) -> None:
        self._ledger = ledger
        self._runs_path = runs_path

    def start(self, run_id: str) -> int:
        """Count an attempt that begins; return how many there are without progress, this one included."""
        self.settle(run_id)
        # Without room for it the ledger has none either, and says so in a better sentence.
        with suppress(OSError):
            write_text_atomically(self._file(run_id, COUNTS_NAME), "")
        return self._ledger.start_attempt(run_id)

    def forgive(self, run_id: str) -> None:
        """Let the last attempt not count: something outside broke it, which says nothing about the span."""
        try:
            self._ledger.give_back_attempt(run_id)
        except UnavailableError:
            with suppress(OSError):
                os.rename(self._file(run_id, COUNTS_NAME), self._file(run_id, FORGIVEN_NAME))

    def settle(self, run_id: str) -> None:
        """Tell the ledger of an attempt that was forgiven while nothing could be written."""
        forgiven = self._file(run_id, FORGIVEN_NAME)
        if forgiven.exists():
            self._ledger.give_back_attempt(run_id)
            os.rename(forgiven, self._file(run_id, COUNTS_NAME))

    def _file(self, run_id: str, name: str) -> Path:
        return self._runs_path / run_id / name
