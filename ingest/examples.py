"""Encodes records as tf.Example, with the same bytes for the same values in every process and on both stacks."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.columns import as_array

# tf.Example { Features features = 1 }: field 1, wire type 2 (length-delimited), protobuf encoding specification.
_FEATURES_TAG = b"\x0a"


def encode_examples(features: pa.Table) -> pa.Array:
    """Return one serialized tf.Example per row, as large_binary; a missing value is an absent feature.

    tfx_bsl's encoder is faster but writes the features of an example in an order that varies. This one gives the bytes
    of `SerializeToString(deterministic=True)`, cheaper: each distinct value of a column is serialized once, and since
    protobuf merges concatenated messages, the `Features` of a row are those of its columns, concatenated by name.
    """
    empty = pa.scalar(b"", pa.large_binary())
    entries = [_entries(name, as_array(features[name])) for name in sorted(features.column_names)]
    bodies = pc.binary_join_element_wise(*entries, empty)
    lengths = pc.binary_length(bodies).dictionary_encode()
    headers = pa.array([_FEATURES_TAG + _varint(n) for n in lengths.dictionary.to_pylist()], pa.large_binary())
    return pc.binary_join_element_wise(headers.take(lengths.indices), bodies, empty)


def _entries(name: str, column: pa.Array) -> pa.Array:
    """Return each value as a serialized `Features` message with this one feature; empty where there is no value."""
    if pa.types.is_large_list(column.type):
        entry_of: dict[Any, bytes] = {None: b"", (): b""}
        rows = [None if values is None else tuple(values) for values in column.to_pylist()]
        for values in set(rows):
            if values:
                entry_of[values] = _entry(name, column.type.value_type, values)
        return pa.array([entry_of[values] for values in rows], pa.large_binary())
    distinct = column.dictionary_encode()
    encoded = [_entry(name, column.type, (value,)) for value in distinct.dictionary.to_pylist()]
    return pc.fill_null(pa.array(encoded, pa.large_binary()).take(distinct.indices), b"")


def _entry(name: str, kind: pa.DataType, values: tuple[Any, ...]) -> bytes:
    import tensorflow as tf

    if pa.types.is_int64(kind):
        feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    elif pa.types.is_float32(kind):
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    else:
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    encoded: bytes = tf.train.Features(feature={name: feature}).SerializeToString(deterministic=True)
    return encoded


def _varint(number: int) -> bytes:
    """Return a protobuf base-128 varint.

    Example:
        >>> _varint(300).hex()
        'ac02'
    """
    groups = []
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
