"""Epoch by epoch progress of one training run on disk, so that a killed step goes on where it stopped.

Keras' BackupAndRestore keeps weights and epoch but forgets what early stopping knew, so that a resumed run could end
with other weights than the undisturbed one. Here early stopping is computed from the history, and the history is kept.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
from pydantic import ValidationError

from core.files import TEMPORARY_PREFIX, folder_written_atomically, link_or_copy, write_text_atomically
from schemas.base import Record

PROGRESS_FILE = "progress.json"
DECISION_FILE = "decision.json"
_LOG = logging.getLogger(__name__)
Decision = TypeVar("Decision", bound=Record)


class Progress(Record):
    """What a run has done so far.

    Attributes:
        run_digest: Identifies the run; progress of another run in the same folder is not used.
        history: Keras' logs of every finished epoch, with `val_loss`.
    """

    run_digest: str
    history: tuple[dict[str, float], ...] = ()

    @property
    def losses(self) -> list[float]:
        """Validation loss per epoch."""
        return [epoch["val_loss"] for epoch in self.history]

    @property
    def best_epoch(self) -> int:
        """Index of the epoch with the lowest validation loss, the first of equals."""
        return self.losses.index(min(self.losses))


class _KeptDecision(Record):
    run_digest: str
    decision: dict[str, Any]


def should_stop(losses: Sequence[float], patience_epochs: int) -> bool:
    """Return whether the last `patience_epochs` epochs, at least one, brought no better validation loss.

    Example:
        >>> should_stop([0.5, 0.4, 0.45], patience_epochs=1)
        True
        >>> should_stop([0.5, 0.4, 0.45], patience_epochs=2)
        False
    """
    num_epochs_since_best = len(losses) - 1 - losses.index(min(losses))
    return num_epochs_since_best >= max(patience_epochs, 1)


class Checkpoints:
    """The weights and optimizer state after the best and the last epoch, and the progress they belong to.

    Weights are written first, under a temporary name, and the progress file that refers to them last, so that a kill
    at any moment leaves a usable folder.

    Args:
        root: Same for every attempt at one run.
        run_digest: Identifies the run.

    Attributes:
        folder: This attempt's own, beginning with what the one before it left. A worker that was taken for dead may
            wake up and go on saving; in a shared folder it would drop weights that its successor counts on.
    """

    def __init__(self, root: Path, run_digest: str) -> None:
        self.folder = _begin_attempt(root)
        self.run_digest = run_digest

    def resume(self, model: keras.Model) -> Progress:
        """Load the last epoch's weights and optimizer state into `model`, if an earlier attempt left any."""
        fresh = Progress(run_digest=self.run_digest)
        try:
            progress = Progress.model_validate_json((self.folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return fresh
        if progress.run_digest != self.run_digest or not progress.history:
            return fresh
        self.restore(model, len(progress.history) - 1)
        _LOG.info("Resuming after epoch %d from %s", len(progress.history), self.folder)
        return progress

    def recall(self, kind: type[Decision]) -> Decision | None:
        """Return what an earlier attempt at the run has decided, if it got that far."""
        try:
            text = (self.folder / DECISION_FILE).read_text(encoding="utf-8")
            kept = _KeptDecision.model_validate_json(text)
        except (FileNotFoundError, ValidationError):
            return None
        return kind.model_validate(kept.decision) if kept.run_digest == self.run_digest else None

    def keep(self, decision: Record) -> None:
        """Keep a decision for later attempts: what was trained so far rests on it."""
        kept = _KeptDecision(run_digest=self.run_digest, decision=decision.model_dump(mode="json"))
        write_text_atomically(self.folder / DECISION_FILE, kept.model_dump_json())

    def save(self, model: keras.Model, progress: Progress) -> None:
        """Keep the model as it is after the last epoch of `progress`; drop what is neither last nor best."""
        last = len(progress.history) - 1
        # Keras insists on the ending `.weights.h5`.
        temporary = self.folder / f"{TEMPORARY_PREFIX}{self._weights_file(last).name}"
        model.save_weights(temporary)
        temporary.replace(self._weights_file(last))
        write_text_atomically(self.folder / PROGRESS_FILE, progress.model_dump_json())
        kept = {self._weights_file(epoch) for epoch in (last, progress.best_epoch)}
        for file in self.folder.glob("epoch-*.weights.h5"):
            if file not in kept:
                file.unlink()

    def restore(self, model: keras.Model, epoch: int) -> None:
        """Load weights and optimizer state as they were after `epoch`."""
        model.load_weights(self._weights_file(epoch))

    def _weights_file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.weights.h5"


def _begin_attempt(root: Path) -> Path:
    attempts = sorted(root.glob("attempt-*"))
    number = int(attempts[-1].name.rpartition("-")[2]) + 1 if attempts else 1
    with folder_written_atomically(root / f"attempt-{number:06d}") as temporary:
        for file in attempts[-1].glob("[!.]*") if attempts else ():
            # No file changes in place, so a link is as good as a copy.
            link_or_copy(file, temporary / file.name)
    return root / f"attempt-{number:06d}"
