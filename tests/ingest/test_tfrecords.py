"""Framing: counted as TensorFlow wrote it; damage under a right file name is found."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DataError
from ingest.tfrecords import RECORD_DIGEST_BYTES, count_records, record_digests


@pytest.fixture
def write_records(tmp_path: Path) -> Callable[..., Path]:
    """Write records with TensorFlow, plain or gzipped by the name's suffix."""

    def write(name: str, records: list[bytes]) -> Path:
        import tensorflow as tf

        with tf.io.TFRecordWriter(str(tmp_path / name), "GZIP" if name.endswith(".gz") else "") as writer:
            for record in records:
                writer.write(record)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
@pytest.mark.parametrize("records", [[], [b""], [b"a", b"bb" * 2_000_000, b""]], ids=["none", "empty", "large"])
def test_tensorflows_records_are_counted(write_records: Callable[..., Path], name: str, records: list[bytes]) -> None:
    assert count_records(write_records(name, records)) == len(records)


@pytest.mark.parametrize(
    ("position", "problem"),
    [
        (0, "wrong checksum of the length of record 0"),
        (12, "wrong checksum of record 0"),
        (-1, "wrong checksum of record 1"),
    ],
    ids=["length", "data", "checksum"],
)
def test_a_flipped_bit_in_a_plain_file_is_found(
    write_records: Callable[..., Path], position: int, problem: str
) -> None:
    path = write_records("a.tfrecord", [b"one", b"two"])
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        count_records(path)


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_every_truncation_is_found(write_records: Callable[..., Path], name: str) -> None:
    path = write_records(name, [b"only one"])
    content = path.read_bytes()
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="is damaged"):
            count_records(path)


def test_a_decompression_bomb_is_refused(write_records: Callable[..., Path]) -> None:
    path = write_records("a.tfrecord", [b"\x00" * 10_000_000])
    bomb = path.with_name("bomb.tfrecord.gz")
    bomb.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match="bytes after decompression"):
        count_records(bomb, harmless_bytes=1000)
    assert count_records(bomb) == 1


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_records_have_the_digest_of_their_bytes(write_records: Callable[..., Path], name: str) -> None:
    records = [b"a", b"bb" * 2_000_000, b"", b"a"]
    digests = list(record_digests(write_records(name, records)))
    assert digests == [hashlib.blake2b(record, digest_size=RECORD_DIGEST_BYTES).digest() for record in records]


def test_damage_is_found_while_digesting(write_records: Callable[..., Path]) -> None:
    path = write_records("a.tfrecord", [b"one", b"two"])
    path.write_bytes(path.read_bytes()[:-1])
    digests = record_digests(path)
    next(digests)
    with pytest.raises(DataError, match="end of file after record 1"):
        next(digests)
