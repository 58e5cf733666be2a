import gzip

import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from core.errors import DataError
from records.reading import record_batches, serialized_batches, split_files


def _example(row):
    features = {"row": tf.train.Feature(int64_list=tf.train.Int64List(value=[row]))}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "Split-train"
    folder.mkdir()
    for number, rows in enumerate((range(3), range(3, 5))):
        with tf.io.TFRecordWriter(str(folder / f"{number}.tfrecord.gz"), "GZIP") as writer:
            for row in rows:
                writer.write(_example(row))
    return tmp_path


def test_records_come_in_the_files_order(examples):
    batches = list(serialized_batches(split_files(examples, "train"), batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1, 2]
    assert [record for batch in batches for record in batch] == [_example(row) for row in range(5)]


def test_record_batches_have_the_schemas_columns(examples):
    schema = schema_pb2.Schema()
    schema.feature.add(name="row", type=schema_pb2.INT)
    schema.feature.add(name="absent", type=schema_pb2.FLOAT)
    first, second = record_batches(split_files(examples, "train"), schema)
    assert first.schema.names == ["row", "absent"]
    assert first.column(0).to_pylist() + second.column(0).to_pylist() == [[row] for row in range(5)]


def test_split_without_files_is_an_error(examples):
    with pytest.raises(DataError, match=r"The eval split of .* has no files"):
        split_files(examples, "eval")


def test_damaged_file_is_named(examples):
    file = split_files(examples, "train")[0]
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[20] ^= 1
    file.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match=r"0\.tfrecord\.gz' cannot be read"):
        list(serialized_batches([file]))


@pytest.fixture
def alike(tmp_path):
    """A file of records that are so alike that what TensorFlow decompresses often ends with one."""
    file = tmp_path / "alike.tfrecord.gz"
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        for row in range(500):
            writer.write(_example(row % 3))
    return file


def test_file_cut_anywhere_is_refused(alike):
    whole = alike.read_bytes()
    for num_bytes in range(0, len(whole), 7 if len(whole) > 700 else 1):
        alike.write_bytes(whole[:num_bytes])
        with pytest.raises(DataError, match=r"alike\.tfrecord\.gz' cannot be read"):
            list(serialized_batches([alike]))


def test_content_that_ends_inside_a_record_is_refused(alike):
    whole = gzip.decompress(alike.read_bytes())
    frame = len(_example(0)) + 16
    for num_bytes in range(10 * frame + 1, 11 * frame):
        alike.write_bytes(gzip.compress(whole[:num_bytes]))
        with pytest.raises(DataError, match=r"alike\.tfrecord\.gz' cannot be read"):
            list(serialized_batches([alike]))


def test_members_concatenated_are_one_file(alike):
    alike.write_bytes(alike.read_bytes() + gzip.compress(b"") + alike.read_bytes())
    assert sum(map(len, serialized_batches([alike]))) == 1000


def test_cut_inside_the_second_member_is_refused(alike):
    alike.write_bytes(alike.read_bytes() + alike.read_bytes()[:-8])
    with pytest.raises(DataError, match="received Compressed file ended"):
        list(serialized_batches([alike]))


def test_file_without_records_is_no_damage(alike):
    with tf.io.TFRecordWriter(str(alike), "GZIP"):
        pass
    assert list(serialized_batches([alike])) == []


def test_missing_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(serialized_batches([tmp_path / "absent"]))
