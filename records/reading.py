"""Reads gzipped TFRecord files into memory, batch by batch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from core.errors import DataError

BATCH_SIZE = 4096  # examples; past a thousand nothing gets faster, and memory stays small


def split_files(examples_uri: str | Path, split: str) -> list[Path]:
    """Return the files of one split of an Examples artifact, in the order of their names.

    Raises:
        DataError: there are none.
    """
    files = sorted(Path(examples_uri, f"Split-{split}").glob("*"))
    if not files:
        raise DataError(
            f"The {split} split of {str(examples_uri)!r} has no files. Expected gzipped TFRecord files; "
            "received none. Ingest the span again."
        )
    return files


def serialized_batches(files: Sequence[Path], batch_size: int = BATCH_SIZE) -> Iterator[Any]:
    """Yield serialized `tf.Example` records as NumPy arrays of bytes, shape `(batch,)`, in the files' order.

    Raises:
        DataError: a file is damaged.
    """
    for file in files:
        try:
            for batch in tf.data.TFRecordDataset(str(file), compression_type="GZIP").batch(batch_size):
                yield batch.numpy()
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            raise DataError(
                f"File {str(file)!r} cannot be read. Expected gzipped TFRecords; received {error.message}. "
                "Ingest the span again."
            ) from error


def record_batches(
    files: Sequence[Path], schema: schema_pb2.Schema | None = None, batch_size: int = BATCH_SIZE
) -> Iterator[pa.RecordBatch]:
    """Yield examples as Arrow record batches, a list column per feature, as TFX's own readers make them.

    Args:
        files: Gzipped TFRecord files of `tf.Example`.
        schema: Which features to decode, and their types; None: all that are there.
        batch_size: Examples in a batch; the last of each file may be smaller.

    Raises:
        DataError: a file is damaged.
    """
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString() if schema else None)
    for batch in serialized_batches(files, batch_size):
        yield decoder.DecodeBatch(batch.tolist())
