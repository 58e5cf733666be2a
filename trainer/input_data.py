"""Which examples are learned from, which are held out, and in what order; where they come from is in `examples`.

Order is a function of (files, seed, epoch), so that a resumed run sees what the undisturbed run would have seen.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from core.errors import DataError
from trainer.batches import Batches, Tensors
from trainer.examples import Examples
from trainer.orders import Order
from trainer.replayed_examples import ReplayedExamples


@dataclass(frozen=True)
class TrainingData:
    """The train split, with every k-th record held out for early stopping; the eval split is never read here.

    Attributes:
        examples: The examples, new and past.
        num_examples: New ones.
        batch_size: Examples per batch; the last of an epoch may be smaller.
        validation_fraction: Share held out, rounded to one in k.
        seed: Decides the order together with the epoch.
        replayed: Past examples to mix in; None: none. They are never held out: early stopping asks about the new ones.
    """

    examples: Examples
    num_examples: int
    batch_size: int
    validation_fraction: float
    seed: int
    replayed: ReplayedExamples | None = None

    def __post_init__(self) -> None:
        """Refuse a window so small that nothing would be held out.

        Raises:
            DataError: fewer than k examples.
        """
        if self.num_examples < self.validation_every:
            raise DataError(
                f"The train split is too small to hold out one in {self.validation_every} examples. Expected at "
                f"least {self.validation_every}; received num_examples={self.num_examples}. "
                "Widen the window or raise validation_fraction."
            )

    @property
    def validation_every(self) -> int:
        """One record in this many is held out."""
        return round(1 / self.validation_fraction)

    @property
    def num_validation_examples(self) -> int:
        """Records held out."""
        return self.num_examples // self.validation_every

    @property
    def num_learned_examples(self) -> int:
        """Records that are not held out."""
        return self.num_examples - self.num_validation_examples

    @property
    def num_replayed_examples(self) -> int:
        """Past examples in an epoch, repeated ones counted as often as they come."""
        return self.replayed.num_per_epoch(self.num_learned_examples) if self.replayed else 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the records that are not held out, and the past ones among them."""
        return -(-(self.num_learned_examples + self.num_replayed_examples) // self.batch_size)

    def training(self, epoch: int) -> Batches:
        """Return the batches of an epoch, in an order of its own."""
        chosen = self._learned_from().shuffled(self.seed + epoch)
        if self.num_replayed_examples:
            past = self.examples.past().shuffled(self.seed + epoch)
            chosen = chosen.mixed_with(past, self.num_learned_examples, self.num_replayed_examples)
        return self.examples.batches(chosen, self.batch_size)

    def validation(self) -> Batches:
        """Return the batches of the held-out records; nothing is learned from them, so they are larger."""
        return self.examples.batches(self._held_out(), 4 * self.batch_size)

    def sample(self) -> tuple[Tensors, Any]:
        """Return the first batch of held-out records: model inputs by name, and label of shape `(batch, 1)`."""
        num_chosen = min(self.batch_size, self.num_validation_examples)
        inputs, label = next(iter(self.examples.batches(self._held_out().first(num_chosen), num_chosen).dataset()))
        return inputs, label

    def num_newest(self, num_examples: int) -> int:
        """Return how many records `newest` uses of the most that it may use."""
        return min(num_examples, self.num_learned_examples)

    def newest(self, num_examples: int, num_steps: int) -> Batches:
        """Return `num_steps` batches of the last `num_examples` records that are not held out, shuffled and repeated.

        Files are named by span, so the last records are the newest.
        """
        skipped = self.num_learned_examples - self.num_newest(num_examples)
        chosen = self._learned_from().without_first(skipped).shuffled(self.seed)
        return self.examples.batches(chosen.first(num_steps * self.batch_size), self.batch_size)

    def _learned_from(self) -> Order:
        return self.examples.new().learned_from(self.validation_every)

    def _held_out(self) -> Order:
        return self.examples.new().held_out(self.validation_every)


def matching_files(patterns: list[str]) -> tuple[str, ...]:
    """Return the files that the Trainer's patterns name, sorted.

    Raises:
        DataError: none exist.
    """
    files = tuple(sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern)))
    if not files:
        raise DataError(
            f"The train split has no files. Expected TFRecord files that match {patterns}; received none. "
            "Ingest the span again."
        )
    return files
