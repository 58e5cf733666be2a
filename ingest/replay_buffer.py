"""The replay buffer on disk: read, offered the spans of an Examples artifact, written. What is kept: reservoir.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.errors import DataError
from core.files import write_text_atomically
from ingest.reservoir import Reservoir, priorities_of
from schemas.replay import MEMBERSHIP_FILE, REPLAY_EXAMPLES_FILE, REPLAY_INDEX_FILE, Membership, ReplayOptions
from schemas.spans import SPAN_FILE_NAME, SPLITS, SpanRef

_BATCH_SIZE = 1024  # records that TensorFlow hands over at a time
_INDEX = ("priority", "span", "version", "position", "label")


class BufferUpdate(NamedTuple):
    """What an update made of a buffer.

    Attributes:
        membership: How many examples of which span it has.
        joined: Spans with train examples in it that it had none of before, oldest first.
        left: Spans whose last train example made room for others.
    """

    membership: Membership
    joined: tuple[SpanRef, ...]
    left: tuple[SpanRef, ...]


def update_buffer(
    previous: Path | None,
    examples: Path,
    target: Path,
    *,
    spans: Sequence[SpanRef],
    options: ReplayOptions,
    label: str,
    seed: int,
) -> BufferUpdate:
    """Write the buffer that follows from the previous one and all examples of some spans, both splits.

    Memory and time are of the order of one span and the buffer, however many spans came before.

    Args:
        previous: Folder of the buffer so far; it stays as it is.
        examples: Folder of an Examples artifact, as `components.example_gen` fills it.
        target: Folder to write to.
        spans: The spans inside `examples`.
        options: Size and balance.
        label: Column of the label.
        seed: Seed of the lots that are drawn.

    Returns:
        What is in the buffer now, and which spans came and went.

    Raises:
        DataError: a span has no files, a file cannot be read, or a record has no label.
    """
    capacities = {"train": options.train_examples, "eval": options.eval_examples}
    reservoirs, spans_before = {}, {}
    for split in SPLITS:
        reservoir = read_reservoir(previous, split) if previous else Reservoir()
        spans_before[split] = reservoir.spans
        reservoir = reservoir.keep(capacities[split], options.balance)  # the config may ask for fewer than before
        new = [ref for ref in spans if not reservoir.was_offered(ref)]
        for ref in new:
            records = _read_records(_files_of(examples, split, ref))
            priorities = priorities_of(seed, split, ref.span, len(records))
            labels = [_label_text(record, label) for record in records]
            reservoir = reservoir.offer(ref, records, labels, priorities=priorities)
            reservoir = reservoir.keep(capacities[split], options.balance)
        write_reservoir(reservoir, target, split)
        reservoirs[split] = reservoir
    membership = Membership(
        num_seen={split: reservoir.num_seen for split, reservoir in reservoirs.items()},
        members={split: reservoir.members for split, reservoir in reservoirs.items()},
    )
    write_text_atomically(target / MEMBERSHIP_FILE, membership.model_dump_json(indent=1))
    before, after = spans_before["train"], reservoirs["train"].spans
    was_in, is_in = set(before), set(after)  # there may be as many spans as examples
    joined = tuple(ref for ref in after if ref not in was_in)
    return BufferUpdate(membership, joined, left=tuple(ref for ref in before if ref not in is_in))


def read_replay(folder: Path, split: str) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Return the examples of one split of a buffer in random order, and the span of each, shape `(num_examples,)`.

    Raises:
        DataError: the buffer cannot be read.
    """
    examples = read_reservoir(folder, split).examples
    return examples["example"].tolist(), examples["span"].to_numpy()


def read_reservoir(folder: Path, split: str) -> Reservoir:
    """Return one split of a buffer.

    Raises:
        DataError: index or examples are missing or damaged, or do not belong together.
    """
    path = folder / REPLAY_INDEX_FILE.format(split=split)
    records = _read_records([folder / REPLAY_EXAMPLES_FILE.format(split=split)])
    try:
        # np.load leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as index:
            columns: dict[str, Any] = {name: index[name] for name in _INDEX}
            offered = [index[f"offered_{name}"].tolist() for name in SpanRef.model_fields]
            num_seen = int(index["num_seen"])
        columns["label"] = columns["label"].astype(object)
        examples = pd.DataFrame({**columns, "example": np.asarray(records, dtype=object)})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"Replay buffer {str(folder)!r} cannot be read: {error}. Expected an index of its {len(records)} {split} "
            f"examples in {path.name!r}. Delete the artifact; without one the next cold start fills a new buffer."
        ) from error
    refs = (SpanRef(span=span, version=version, digest=digest) for span, version, digest in zip(*offered, strict=True))
    return Reservoir(examples=examples, offered={ref.span: ref for ref in refs}, num_seen=num_seen)


def write_reservoir(reservoir: Reservoir, folder: Path, split: str) -> None:
    """Write one split of a buffer, the same bytes for the same reservoir."""
    import tensorflow as tf

    records = folder / REPLAY_EXAMPLES_FILE.format(split=split)
    records.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(records), "GZIP") as writer:
        for example in reservoir.examples["example"]:
            writer.write(example)
    refs = [reservoir.offered[span] for span in sorted(reservoir.offered)]
    offered = {f"offered_{name}": np.array([getattr(ref, name) for ref in refs]) for name in SpanRef.model_fields}
    columns = {name: reservoir.examples[name].to_numpy() for name in _INDEX}
    columns["label"] = columns["label"].astype(np.str_)
    path = folder / REPLAY_INDEX_FILE.format(split=split)
    np.savez_compressed(path, **columns, **offered, num_seen=np.int64(reservoir.num_seen))


def _files_of(examples: Path, split: str, ref: SpanRef) -> list[Path]:
    files = sorted((examples / f"Split-{split}").glob(SPAN_FILE_NAME.format(span=ref.span, name="*")))
    if not files:
        raise DataError(
            f"Span {ref.span} has no files in {str(examples)!r}. Expected Split-{split}/"
            f"{SPAN_FILE_NAME.format(span=ref.span, name='*')}; received none. Fill it with components.example_gen."
        )
    return files


def _read_records(files: Sequence[Path]) -> list[bytes]:
    import tensorflow as tf

    names = [str(file) for file in files]
    try:
        batches = tf.data.TFRecordDataset(names, compression_type="GZIP").batch(_BATCH_SIZE)
        return [record for batch in batches for record in batch.numpy()]
    except tf.errors.OpError as error:
        raise DataError(
            f"A file among {names} cannot be read: {error.message}. Expected gzipped TFRecord files. "
            "Ingest the span again as a new version."
        ) from error


def _label_text(example: bytes, label: str) -> str:
    """Return the label as text: what makes a stratum must be equal for equal labels, whatever their type."""
    import tensorflow as tf

    feature = tf.train.Example.FromString(example).features.feature[label]
    values = [*feature.bytes_list.value, *feature.int64_list.value, *feature.float_list.value]
    if len(values) != 1:
        raise DataError(
            f"A record has {len(values)} values of label {label!r}. Expected exactly one. "
            "Leave unlabelled records out of the span, or correct the config's label."
        )
    value = values[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
