"""Training and validation batches, streamed from gzipped TFRecord files. What they mean is in the transform graph.

Order is a function of (files, seed, epoch), so that a resumed run sees what the undisturbed run would have seen.
"""

import functools
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from core.errors import DataError
from trainer.replayed_examples import ReplayedExamples
from trainer.transform_graph import TransformGraph

# Files read at a time; fixed rather than tuned, because the order of records depends on it.
NUM_INTERLEAVED_FILES = 4
# Serialized records held for shuffling: a flight is about 0.5 KB, so tens of megabytes.
SHUFFLE_BUFFER_EXAMPLES = 1 << 16
_CHUNK_PERIODS = 64


@dataclass(frozen=True)
class TrainingData:
    """The train split, with every k-th record held out for early stopping; the eval split is never read here.

    Attributes:
        files: Gzipped TFRecord files, in order.
        graph: Parses and transforms batches of serialized examples.
        num_examples: Records in all files.
        batch_size: Examples per batch; the last of an epoch may be smaller.
        validation_fraction: Share held out, rounded to one in k.
        seed: Decides the order together with the epoch.
        replayed: Past examples to mix in; None: none. They are never held out: early stopping asks about the new ones.
    """

    files: tuple[str, ...]
    graph: TransformGraph
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
    def all_files(self) -> tuple[str, ...]:
        """The files, and that of past examples."""
        return (*self.files, *([self.replayed.file] if self.replayed else []))

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

    @property
    def validation_steps(self) -> int:
        """Batches of one pass over the held-out records."""
        return -(-self.num_validation_examples // self._validation_batch_size)

    @property
    def _validation_batch_size(self) -> int:
        # Nothing is learned from these, so batches may be larger.
        return 4 * self.batch_size

    def training(self, first_epoch: int, num_epochs: int) -> tf.data.Dataset:
        """Return the batches of the epochs from `first_epoch` up to `num_epochs`, each in an order of its own."""
        epochs = [self._epoch(epoch) for epoch in range(first_epoch, num_epochs)]
        batches = (epoch.batch(self.batch_size) for epoch in epochs)
        # One stream rather than one per epoch: the next epoch's first batches are prefetched during validation.
        return self._transformed(functools.reduce(tf.data.Dataset.concatenate, batches))

    def validation(self) -> tf.data.Dataset:
        """Return the batches of the held-out records, the same in the same order, without end.

        Without end, because Keras starts a stream of known length twice per pass, and a start costs about a second;
        a pass is `validation_steps` batches.
        """
        return self._transformed(self._held_out().batch(self._validation_batch_size).repeat())

    def sample(self) -> tuple[dict[str, Any], Any]:
        """Return the first batch of held-out records: model inputs by name, and label of shape `(batch, 1)`."""
        features, label = self.graph.features_and_label(next(iter(self._held_out().batch(self.batch_size))))
        return features, label

    def num_newest(self, num_examples: int) -> int:
        """Return how many records `newest` uses of the most that it may use."""
        return min(num_examples, self.num_learned_examples)

    def newest(self, num_examples: int, num_steps: int) -> tf.data.Dataset:
        """Return `num_steps` batches of the last `num_examples` records that are not held out, shuffled and repeated.

        Files are named by span, so the last records are the newest.
        """
        skipped = self.num_learned_examples - self.num_newest(num_examples)
        records = _shuffled(self._learned_from().skip(skipped), self.seed)
        return self._transformed(records.repeat().batch(self.batch_size).take(num_steps))

    def _epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the serialized examples of one epoch, scalars, in its order."""
        records = _shuffled(self._learned_from(), self.seed + epoch)
        if not self.num_replayed_examples or self.replayed is None:
            return records
        past = _shuffled(read_records((self.replayed.file,)), self.seed + epoch).repeat()
        return _interleaved(records, self.num_learned_examples, past, self.num_replayed_examples)

    def _learned_from(self) -> tf.data.Dataset:
        """Return the serialized examples, scalars, that are not held out."""
        every = self.validation_every
        # In chunks: a Python-defined filter per record would cost more than training on it.
        chunks = read_records(self.files).batch(every * _CHUNK_PERIODS)

        def without_held_out(chunk: Any) -> Any:
            return tf.boolean_mask(chunk, tf.range(tf.size(chunk)) % every != every - 1)

        return chunks.map(without_held_out).unbatch()

    def _held_out(self) -> tf.data.Dataset:
        """Return the serialized examples, scalars, at positions k - 1, 2 k - 1 and so on."""
        return read_records(self.files).shard(self.validation_every, self.validation_every - 1)

    def _transformed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        mapped = batches.map(self.graph.features_and_label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return mapped.prefetch(tf.data.AUTOTUNE)


def _shuffled(records: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    return records.shuffle(SHUFFLE_BUFFER_EXAMPLES, seed=seed, reshuffle_each_iteration=False)


def _interleaved(new: tf.data.Dataset, num_new: int, past: tf.data.Dataset, num_past: int) -> tf.data.Dataset:
    """Return `num_new` and `num_past` records, evenly mixed: every batch has its share of both."""
    total = num_new + num_past

    def is_past(position: Any) -> Any:
        """Tell, as 0 or 1, whether the share of past records grows by a whole one at this position."""
        return (position + 1) * num_past // total - position * num_past // total

    return tf.data.Dataset.choose_from_datasets([new, past], tf.data.Dataset.range(total).map(is_past))


def read_records(files: tuple[str, ...]) -> tf.data.Dataset:
    """Return serialized examples, scalars, from several files at a time in a fixed order."""
    return tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP"),
        cycle_length=NUM_INTERLEAVED_FILES,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


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
