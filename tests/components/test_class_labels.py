import numpy as np
import pytest

from components.class_labels import class_indices
from core.errors import DataError


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([[b"b"], [b"a"]], object), ("a", "b")),
        (np.array([["b"], ["a"]]), ("a", "b")),
        (np.array([[7], [3]]), ("3", "7")),
    ],
    ids=["bytes", "text", "integers"],
)
def test_labels_become_indices_into_the_classes(labels, classes):
    assert class_indices(labels, classes).tolist() == [[1], [0]]


def test_labels_of_two_models_keep_the_models_names():
    indices = class_indices({"candidate": np.array([b"a"]), "baseline": np.array([b"b"])}, ("a", "b"))
    assert {name: values.tolist() for name, values in indices.items()} == {"candidate": [0], "baseline": [1]}


def test_label_that_is_no_class_is_refused():
    with pytest.raises(DataError, match=r"Expected \['a', 'b'\]; received \['c'\]"):
        class_indices(np.array([b"a", b"c"]), ("a", "b"))
