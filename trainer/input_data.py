"""Which examples are learned from, which are held out, and in what order; where they come from is in `examples`.

Order is a function of (files, seed, epoch), so that a resumed run sees what the undisturbed run would have seen.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from core.errors import DataError
from trainer.batches import Batches, Tensors
from trainer.examples import Examples
from trainer.replayed_examples import ReplayedExamples

# Positions or serialized records shuffled at a time: a flight is about 0.5 KB, so tens of megabytes at most.
SHUFFLE_BLOCK_EXAMPLES = 1 << 16
_CHUNK_PERIODS = 64


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
        num_chosen = self.num_learned_examples + self.num_replayed_examples
        return self.examples.batches(self._epoch(epoch), num_chosen, self.batch_size)

    def validation(self) -> Batches:
        """Return the batches of the held-out records; nothing is learned from them, so they are larger."""
        return self.examples.batches(self._held_out(), self.num_validation_examples, 4 * self.batch_size)

    def sample(self) -> tuple[Tensors, Any]:
        """Return the first batch of held-out records: model inputs by name, and label of shape `(batch, 1)`."""
        num_chosen = min(self.batch_size, self.num_validation_examples)
        inputs, label = next(iter(self.examples.batches(self._held_out(), num_chosen, num_chosen).dataset()))
        return inputs, label

    def num_newest(self, num_examples: int) -> int:
        """Return how many records `newest` uses of the most that it may use."""
        return min(num_examples, self.num_learned_examples)

    def newest(self, num_examples: int, num_steps: int) -> Batches:
        """Return `num_steps` batches of the last `num_examples` records that are not held out, shuffled and repeated.

        Files are named by span, so the last records are the newest.
        """
        skipped = self.num_learned_examples - self.num_newest(num_examples)
        records = _shuffled(self._learned_from().skip(skipped), self.seed)
        return self.examples.batches(records.repeat(), num_steps * self.batch_size, self.batch_size)

    def _epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the examples of one epoch, scalars, in its order."""
        records = _shuffled(self._learned_from(), self.seed + epoch)
        if not self.num_replayed_examples:
            return records
        past = _shuffled(self.examples.past(), self.seed + epoch).repeat()
        return _mixed(records, self.num_learned_examples, past, self.num_replayed_examples)

    def _learned_from(self) -> tf.data.Dataset:
        """Return the examples, scalars, that are not held out."""
        every = self.validation_every
        # In chunks: a Python-defined filter per record would cost more than training on it.
        chunks = self.examples.new().batch(every * _CHUNK_PERIODS)

        def without_held_out(chunk: Any) -> Any:
            return tf.boolean_mask(chunk, tf.range(tf.size(chunk)) % every != every - 1)

        return chunks.map(without_held_out).unbatch()

    def _held_out(self) -> tf.data.Dataset:
        """Return the examples, scalars, at positions k - 1, 2 k - 1 and so on."""
        return self.examples.new().shard(self.validation_every, self.validation_every - 1)


def _shuffled(records: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Shuffle blocks of scalars.

    Not by `Dataset.shuffle`: its order depends on TensorFlow's global seed too, whatever `seed` says, so that a run
    would end differently in a process that has run before.
    """
    blocks = records.batch(SHUFFLE_BLOCK_EXAMPLES).enumerate()

    def shuffled(index: Any, block: Any) -> Any:
        return tf.random.experimental.stateless_shuffle(block, tf.stack([tf.constant(seed, tf.int64), index]))

    return blocks.map(shuffled).prefetch(1).unbatch()


def _mixed(new: tf.data.Dataset, num_new: int, past: tf.data.Dataset, num_past: int) -> tf.data.Dataset:
    """Return `num_new` and `num_past` records, evenly mixed: every batch has its share of both."""
    total = num_new + num_past

    def is_past(position: Any) -> Any:
        """Tell, as 0 or 1, whether the share of past records grows by a whole one at this position."""
        return (position + 1) * num_past // total - position * num_past // total

    return tf.data.Dataset.choose_from_datasets([new, past], tf.data.Dataset.range(total).map(is_past))


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
