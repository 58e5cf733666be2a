"""Encoding: the same bytes as protobuf's deterministic serialization, which is the oracle here."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.columns import typed_column
from ingest.examples import encode_examples

if TYPE_CHECKING:
    from schemas.loader import FeatureType

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(max_size=300),
            "number": st.none() | st.integers(-(2**63), 2**63 - 1),
            "real": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
            "tags": st.none() | st.lists(st.text(max_size=3), max_size=3),
        }
    ),
    max_size=20,
)


def _oracle(row: dict[str, Any]) -> bytes:
    import tensorflow as tf

    feature = {}
    if row["text"] is not None:
        feature["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["text"].encode()]))
    if row["number"] is not None:
        feature["number"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[row["number"]]))
    if row["real"] is not None:
        feature["real"] = tf.train.Feature(float_list=tf.train.FloatList(value=[row["real"] + 0.0]))
    if row["tags"]:
        values = [tag.encode() for tag in row["tags"]]
        feature["tags"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    encoded: bytes = example.SerializeToString(deterministic=True)
    return encoded


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    types: dict[str, tuple[FeatureType, Any]] = {
        "text": ("BYTES", pa.string()),
        "number": ("INT", pa.int64()),
        "real": ("FLOAT", pa.float64()),
        "tags": ("BYTES", pa.list_(pa.string())),
    }
    columns = {}
    for name, (feature_type, kind) in types.items():
        columns[name] = typed_column(name, pa.array([row[name] for row in rows], kind), feature_type).values
    return pa.table(columns)


@pytest.fixture(scope="module", autouse=True)
def _tensorflow_is_imported() -> None:
    """Keep TensorFlow's import out of hypothesis' deadline."""
    import tensorflow  # noqa: F401


@given(ROWS)
def test_examples_are_protobufs_own_bytes(rows: list[dict[str, Any]]) -> None:
    assert encode_examples(_table(rows)).to_pylist() == [_oracle(row) for row in rows]


def test_a_slice_of_a_table_is_encoded_as_itself() -> None:
    rows = [{"text": str(n), "number": n, "real": n / 2, "tags": [str(n)] * (n % 3)} for n in range(10)]
    assert encode_examples(_table(rows).slice(3, 4)).to_pylist() == [_oracle(row) for row in rows[3:7]]
