"""Reads gzipped TFRecord files into memory, batch by batch.

Not by TensorFlow: it takes for whole a compressed file that was cut where what it had decompressed ends with a record,
and may leave out all but the first of concatenated gzip members. This costs the same, and compares every checksum.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import google_crc32c
import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from core.errors import DataError

BATCH_SIZE = 4096  # examples; past a thousand nothing gets faster, and memory stays small
# TFRecord framing (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC32C of the length, the
# data, uint32 masked CRC32C of the data; little-endian. mask(crc) = rotate_right(crc, 15) + 0xa282ead8.
_LENGTH_BYTES = 8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_BUFFER_BYTES = 1 << 20


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

    Args:
        files: Gzipped TFRecord files.
        batch_size: Examples in a batch; the last of each file may be smaller.

    Raises:
        DataError: a file is damaged, or its end is missing.
    """
    for file in files:
        records = _records(file)
        while batch := list(islice(records, batch_size)):
            yield np.array(batch, dtype=object)


def _records(file: Path) -> Iterator[bytes]:
    try:
        if file.stat().st_size == 0:  # to gzip that is a file of no members
            raise EOFError("an empty file")
        with gzip.open(file) as unpacked, BufferedReader(unpacked, _BUFFER_BYTES) as stream:
            yield from _framed(cast("IO[bytes]", stream))
    except (EOFError, ValueError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise DataError(
            f"File {str(file)!r} cannot be read. Expected gzipped TFRecords, whole up to their end and with right "
            f"checksums; received {error}. Restore the file, or ingest the span again."
        ) from error


def _framed(stream: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while header := stream.read(_HEADER.size):
        num_bytes, checksum = _HEADER.unpack(header)
        if _masked_crc(header[:_LENGTH_BYTES]) != checksum:
            raise ValueError(f"a wrong checksum of the length of record {number}")
        record = stream.read(num_bytes)
        if _masked_crc(record) != _FOOTER.unpack(stream.read(_FOOTER.size))[0]:
            raise ValueError(f"a wrong checksum of record {number}")
        yield record
        number += 1


def _masked_crc(content: bytes) -> int:
    crc = cast("int", google_crc32c.value(content))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def record_batches(
    files: Sequence[Path], schema: schema_pb2.Schema | None = None, batch_size: int = BATCH_SIZE
) -> Iterator[pa.RecordBatch]:
    """Yield examples as Arrow record batches, a list column per feature, as TFX's own readers make them.

    Args:
        files: Gzipped TFRecord files of `tf.Example`.
        schema: Which features to decode, and their types; None: all that are there.
        batch_size: Examples in a batch; the last of each file may be smaller.

    Raises:
        DataError: a file is damaged, or its end is missing.
    """
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString() if schema else None)
    for batch in serialized_batches(files, batch_size):
        yield decoder.DecodeBatch(batch.tolist())
