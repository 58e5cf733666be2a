"""Columns of serialized examples, in the types that they have."""

import numpy as np
import pytest
import tensorflow as tf

from core.errors import DataError
from records.columns import labels_of, read_columns
from schemas.features import LabelSpec


def example(**columns):
    proto = tf.train.Example()
    for name, values in columns.items():
        kind = {str: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(proto.features.feature[name], kind).value.extend(encoded)
    return proto.SerializeToString()


def test_values_of_each_example_and_none_where_there_are_none():
    batch = [example(origin=["JFK", "LGA"], late=[1]), example(late=[0], share=[0.5]), example(other=["x"])]
    assert read_columns(np.array(batch, object), ["origin", "late", "share", "unknown"]) == {
        "origin": [[b"JFK", b"LGA"], [], []],
        "late": [[1], [0], []],
        "share": [[], [0.5], []],
        "unknown": [[], [], []],
    }


@pytest.mark.parametrize(
    "batch",
    [[b"\xff\xff"], [example(late=[1]), example(late=["yes"])]],
    ids=["no-example", "two-types"],
)
def test_records_that_cannot_be_decoded_are_a_data_error(batch):
    with pytest.raises(DataError, match=r"cannot be decoded.*Expected serialized tf.Examples.*Ingest the span again"):
        read_columns(batch, ["late"])


def test_labels_of_many_examples_are_those_of_each():
    label = LabelSpec(name="kind", task="multiclass", classes=("early", "7"))
    assert labels_of([[b"7"], [b"early"], [7]], label).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="A record has 0 values of label 'kind'"):
        labels_of([[b"7"], []], label)
