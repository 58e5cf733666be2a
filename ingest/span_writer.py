"""Writes the examples of one span as files and manifest, all or nothing, and the same bytes for the same records."""

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.digests import digest_of_file, digest_of_json
from core.errors import DataError
from core.files import folder_written_atomically
from ingest.examples import encode_examples
from ingest.records import Records
from ingest.splits import split_of
from ingest.tfrecords import SUFFIX
from schemas.spans import MANIFEST_NAME, SPLITS, Manifest, SpanFile, span_folder

# Small enough to interleave and to shuffle well, large enough that a week of flights is one file per split.
MAX_EXAMPLES_PER_FILE = 20_000
DUPLICATE_REASON = "duplicate of another record"


@dataclass(frozen=True)
class SpanContent:
    """What a span will hold: a pure function of its records.

    Attributes:
        examples: Serialized tf.Examples per split, by event time, then key, then bytes.
        digest: Digest of `examples`.
        event_time_min: Earliest event, duplicates included, in UTC.
        event_time_max: Latest event, in UTC.
        num_duplicates: Records with the same time, key and features as another one; one of them is kept.
    """

    examples: dict[str, list[bytes]]
    digest: str
    event_time_min: datetime
    event_time_max: datetime
    num_duplicates: int


def span_content(records: Records, eval_fraction: float) -> SpanContent:
    """Encode, order and split the records of one span; there must be at least one."""
    columns = {
        "time": records.times.astype(np.int64),
        "key": records.keys,
        "example": encode_examples(records.features),
    }
    rows = pa.table(columns)
    rows = rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in columns]))
    examples: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    before, num_duplicates = None, 0
    for row in zip(*(rows[name].to_pylist() for name in columns), strict=True):
        _, key, example = row
        if row == before:
            num_duplicates += 1
        else:
            examples[split_of(key, eval_fraction)].append(example)
        before = row
    return SpanContent(
        examples=examples,
        digest=_digest_of_examples(examples),
        event_time_min=_utc(records.times.min()),
        event_time_max=_utc(records.times.max()),
        num_duplicates=num_duplicates,
    )


def write_span(
    content: SpanContent,
    spans_root: Path,
    *,
    span: int,
    version: int,
    excluded: dict[str, int],
    source: dict[str, str],
    label_delay: timedelta | None = None,
) -> Manifest:
    """Write one version of a span under a temporary name and rename it.

    Raises:
        DataError: the version exists already, written by another process in the meantime.
    """
    with new_version(span_folder(spans_root, span, version)) as temporary:
        manifest = Manifest(
            span=span,
            version=version,
            files={split: _write_files(temporary, split, content.examples[split]) for split in SPLITS},
            event_time_min=content.event_time_min,
            event_time_max=content.event_time_max,
            label_complete_time=None if label_delay is None else content.event_time_max + label_delay,
            excluded=excluded,
            source=source,
            records_digest=content.digest,
        )
        write_manifest(temporary, manifest)
    return manifest


@contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when all went well.

    Raises:
        DataError: `folder` exists already, or was written by another process in the meantime.
    """
    try:
        with folder_written_atomically(folder) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno == errno.ENOTEMPTY:
            raise DataError(
                f"{str(folder)!r} is there already with other content. Expected a version not written yet; versions "
                "are never overwritten. Give a correction its own version; if two ingests ran at once, run one again."
            ) from error
        raise


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder that nobody else sees yet."""
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def describe_file(folder: Path, path: Path, num_examples: int) -> SpanFile:
    """Return the manifest's entry for a file inside a span's folder."""
    return SpanFile(
        path=path.relative_to(folder).as_posix(),
        sha256=digest_of_file(path),
        num_bytes=path.stat().st_size,
        num_examples=num_examples,
    )


def _write_files(folder: Path, split: str, examples: Sequence[bytes]) -> tuple[SpanFile, ...]:
    import tensorflow as tf

    split_folder = folder / f"Split-{split}"
    split_folder.mkdir()
    num_files = max(1, -(-len(examples) // MAX_EXAMPLES_PER_FILE))
    files = []
    for number in range(num_files):
        path = split_folder / f"examples-{number:05d}-of-{num_files:05d}{SUFFIX}"
        shard = examples[number * MAX_EXAMPLES_PER_FILE : (number + 1) * MAX_EXAMPLES_PER_FILE]
        # TensorFlow leaves the gzip header's time and name empty, so equal records give equal files.
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for example in shard:
                writer.write(example)
        files.append(describe_file(folder, path, len(shard)))
    return tuple(files)


def _digest_of_examples(examples: dict[str, list[bytes]]) -> str:
    digests = []
    for split in SPLITS:
        state = hashlib.sha256()
        for example in examples[split]:
            state.update(len(example).to_bytes(8, "little"))
            state.update(example)
        digests.append([split, state.hexdigest()])
    return digest_of_json(digests)


def _utc(instant: np.datetime64) -> datetime:
    return cast("datetime", instant.astype("datetime64[us]").item()).replace(tzinfo=UTC)
