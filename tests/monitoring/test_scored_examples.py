"""What is read from serialized examples: labels as the task has them, slices as TFMA names them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_analysis.slicer import slicer_lib

from core.errors import DataError
from monitoring.scored_examples import score_examples
from schemas.features import LabelSpec
from schemas.gate import BootstrapOptions

BINARY = LabelSpec(name="late")
CLASSES = LabelSpec(name="kind", task="multiclass", classes=("early", "late", "7"))


def example(**columns):
    proto = tf.train.Example()
    for name, values in columns.items():
        feature = proto.features.feature[name]
        if isinstance(values[0], str):
            feature.bytes_list.value.extend(value.encode() for value in values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return proto.SerializeToString()


def scorer(*row):
    return lambda batch: np.tile(np.array(row, np.float32), (len(batch), 1))


def score(batches, label=BINARY, columns=(), candidate=(0.5,), champion=(0.5,)):
    return score_examples(
        batches, label=label, columns=columns, candidate=scorer(*candidate), champion=scorer(*champion)
    )


def test_batches_are_scored_in_order_by_both_models():
    examples = score([[example(late=[0]), example(late=[1])], [example(late=[1.0])]], champion=(0.25,))
    np.testing.assert_array_equal(examples.labels, [0, 1, 1])
    np.testing.assert_array_equal(examples.candidate, np.full((3, 1), 0.5))
    np.testing.assert_array_equal(examples.champion, np.full((3, 1), 0.25))


def test_no_example_is_nothing_to_compare():
    assert score([]) is None


def test_slices_are_those_that_tfma_makes():
    rows = [
        {"origin": ["EWR"], "hour": [6], "tags": ["a", "b", "a"], "share": [0.1]},
        {"origin": ["JFK"], "hour": [6], "tags": ["b"], "share": [0.5]},
        {"origin": ["EWR"], "hour": [7]},
    ]
    examples = score([[example(late=[0], **row) for row in rows]], columns=("origin", "hour", "tags", "share"))
    for columns in ((), ("origin",), ("hour",), ("tags",), ("hour", "origin"), ("origin", "tags"), ("share",)):
        spec = slicer_lib.SingleSliceSpec(columns=columns)
        expected: dict[tuple[tuple[str, str], ...], set[int]] = {}
        for number, row in enumerate(rows):
            arrays = {name: np.array(values, np.float32 if name == "share" else None) for name, values in row.items()}
            for key in slicer_lib.get_slices_for_features_dicts([arrays], None, [spec]):
                # As an Evaluator writes slice keys, and as they are loaded.
                loaded = slicer_lib.deserialize_slice_key(slicer_lib.serialize_slice_key(key))
                expected.setdefault(loaded, set()).add(number)
        assert expected
        for key, numbers in expected.items():
            assert len(examples.in_slice(key)) == len(numbers), key
    assert len(examples.in_slice([("origin", "XX")])) == 0


def test_labels_of_a_multiclass_task_are_indices_and_a_new_class_has_no_probability_before():
    batches = [[example(kind=["late"])], [example(kind=[7])], [example(kind=["early"])]]
    examples = score(batches, label=CLASSES, candidate=(0.2, 0.3, 0.5), champion=(0.4, 0.6))
    np.testing.assert_array_equal(examples.labels, [1, 2, 0])
    np.testing.assert_array_equal(examples.champion[0], np.array([0.4, 0.6, 0.0], np.float32))
    found = examples.difference("sparse_categorical_crossentropy", BootstrapOptions(num_replicates=100, min_examples=2))
    assert found.value < 0


def test_a_metric_that_cannot_be_compared_has_no_difference():
    examples = score([[example(late=[number % 2]) for number in range(300)]], champion=(0.25,))
    assert examples.difference("calibration", BootstrapOptions()) is None
    assert examples.difference("binary_crossentropy", BootstrapOptions()).value < 0


@pytest.mark.parametrize(
    ("record", "label", "message"),
    [
        (example(other=[1]), BINARY, "A record has 0 values of label 'late'"),
        (example(late=[0, 1]), BINARY, "A record has 2 values of label 'late'"),
        (example(kind=["never"]), CLASSES, r"Expected one of \['early', 'late', '7'\]; received 'never'"),
        (example(late=["yes"]), BINARY, "Expected a number; received 'yes'"),
    ],
    ids=["missing", "several", "unknown-class", "no-number"],
)
def test_a_label_that_cannot_be_used_is_a_data_error(record, label, message):
    with pytest.raises(DataError, match=message):
        score([[record]], label=label)
