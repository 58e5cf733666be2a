"""Reads the records of a TFRecord file without TensorFlow, in bounded memory, and checks them. Nothing is decoded."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from core.errors import DataError

SUFFIX = ".tfrecord.gz"

# TFRecord framing (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC32C of the length, the
# data, uint32 masked CRC32C of the data; little-endian. mask(crc) = rotate_right(crc, 15) + 0xa282ead8.
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_PIECE_BYTES = 1 << 20
# A decompression bomb: more than 200 times the file's size, and more than a file of harmless repetition would have. The
# flights' spans expand 13-fold; deflate's ceiling is 1032-fold (zlib's technical notes).
MAX_EXPANSION = 200
MAX_HARMLESS_BYTES = 1 << 30
# Enough that two records of one span never share a digest by chance.
RECORD_DIGEST_BYTES = 16


def count_records(path: Path, *, harmless_bytes: int = MAX_HARMLESS_BYTES) -> int:
    """Return the number of records of a TFRecord file, gzipped if its name ends in `.gz`.

    Every checksum in the file is compared.

    Args:
        path: File to read.
        harmless_bytes: How much it may hold, however well it is compressed.

    Raises:
        DataError: the file is truncated, damaged, no TFRecord, or expands beyond all reason.
    """
    return sum(1 for _ in _records(path, harmless_bytes, are_digested=False))


def record_digests(path: Path, *, harmless_bytes: int = MAX_HARMLESS_BYTES) -> Iterator[bytes]:
    """Yield a digest of each record of a TFRecord file, in order; the file is checked as `count_records` does.

    Args:
        path: File to read.
        harmless_bytes: How much it may hold, however well it is compressed.

    Raises:
        DataError: as `count_records`.
    """
    return _records(path, harmless_bytes, are_digested=True)


def _records(path: Path, harmless_bytes: int, *, are_digested: bool) -> Iterator[bytes]:
    try:
        limit = max(MAX_EXPANSION * path.stat().st_size, harmless_bytes)
        with path.open("rb") as raw:
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
            yield from _read(stream, limit, are_digested)
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(
            f"TFRecord file {str(path)!r} is damaged. Expected whole records with right checksums; "
            f"received {str(error)!r}. Restore the file from its source, or ingest the span again."
        ) from error


def _read(stream: IO[bytes], limit: int, are_digested: bool) -> Iterator[bytes]:
    count, total = 0, 0
    while header := stream.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise ValueError(f"end of file inside the header of record {count}")
        num_bytes, expected = _HEADER.unpack(header)
        if _masked_crc(header[:8]) != expected:
            raise ValueError(f"wrong checksum of the length of record {count}")
        total += num_bytes
        if total > limit:
            raise ValueError(f"more than {limit} bytes after decompression")
        digest = hashlib.blake2b(digest_size=RECORD_DIGEST_BYTES) if are_digested else None
        _check_data(stream, num_bytes, count, digest)
        yield digest.digest() if digest else b""
        count += 1


def _check_data(stream: IO[bytes], num_bytes: int, record: int, digest: "hashlib.blake2b | None") -> None:
    import google_crc32c

    crc, left = 0, num_bytes
    while left:
        piece = stream.read(min(left, _PIECE_BYTES))
        if not piece:
            raise ValueError(f"end of file inside record {record}")
        crc = google_crc32c.extend(crc, piece)
        if digest is not None:
            digest.update(piece)
        left -= len(piece)
    footer = stream.read(_FOOTER.size)
    if len(footer) < _FOOTER.size:
        raise ValueError(f"end of file after record {record}")
    if _mask(crc) != _FOOTER.unpack(footer)[0]:
        raise ValueError(f"wrong checksum of record {record}")


def _masked_crc(content: bytes) -> int:
    import google_crc32c

    return _mask(google_crc32c.value(content))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
