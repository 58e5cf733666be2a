"""Types of source columns: what is converted, what is missing, what is refused."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from ingest.columns import typed_column


@pytest.mark.parametrize(
    ("values", "feature_type", "expected"),
    [
        (pa.array(["1", None, "-7"]), "INT", [1, None, -7]),
        (pa.array(["3.0", None]), "INT", [3, None]),
        (pa.array([3.0, float("nan")]), "INT", [3, None]),
        (pa.array([True, False]), "INT", [1, 0]),
        (pa.array([9007199254740993]), "INT", [9007199254740993]),
        (pa.array(["0.5", None, "nan"]), "FLOAT", [0.5, None, None]),
        (pa.array([0.5, None, float("nan")]), "FLOAT", [0.5, None, None]),
        (pa.array([Decimal("0.5")]), "FLOAT", [0.5]),
        (pa.array([1, 2]), "FLOAT", [1.0, 2.0]),
        (pa.array(["é", None]), "BYTES", ["é".encode(), None]),
        (pa.array([b"\xff"]), "BYTES", [b"\xff"]),
        (pa.array(["a", "a"]).dictionary_encode(), "BYTES", [b"a", b"a"]),
        (pa.array([None, None]), "BYTES", [None, None]),
        (pa.array([["a", "b"], [], None]), "BYTES", [[b"a", b"b"], [], []]),
        (pa.array([[1], [2, 3]]), "FLOAT", [[1.0], [2.0, 3.0]]),
    ],
)
def test_values_get_the_schemas_type(values: Any, feature_type: Any, expected: list[Any]) -> None:
    typed = typed_column("x", values, feature_type)
    assert typed.values.to_pylist() == expected
    assert not any(rows.any() for rows in typed.rejected.values())


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_survive_as_text_and_as_numbers(values: list[float]) -> None:
    for column in (pa.array(values, pa.float64()), pa.array([repr(value) for value in values], pa.string())):
        assert typed_column("x", column, "FLOAT").values.to_pylist() == values


@pytest.mark.parametrize("values", [[1.0, np.inf], ["1", "-inf"], [1.0, 1e300]], ids=["inf", "text", "overflow"])
def test_rows_with_infinite_values_are_rejected(values: list[Any]) -> None:
    rejected = typed_column("x", pa.array(values), "FLOAT").rejected
    assert rejected["infinite value in x"].tolist() == [False, True]


def test_rows_with_a_gap_in_a_list_are_rejected() -> None:
    column = pa.array([["a"], None, ["b", None, "c"]])
    rejected = typed_column("tags", column, "BYTES").rejected
    assert rejected["missing value inside the list of tags"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("values", "feature_type", "message"),
    [
        (["1", "two", "3"], "INT", r"'x' has 1 values of the wrong type. Expected whole numbers.*received \['two'\]"),
        (["1.5"], "INT", r"Expected whole numbers.*received \['1.5'\]"),
        (["0.5", "much"], "FLOAT", r"Expected numbers.*received \['much'\]"),
        ([1, 2], "BYTES", r"'x' has 2 values of the wrong type. Expected text, since the schema says BYTES"),
        ([f"bad{n}" for n in range(50)], "FLOAT", r"has 50 values .*'bad9'\]\. Correct"),
    ],
    ids=["text for int", "fraction for int", "text for float", "numbers for bytes", "no more than ten are shown"],
)
def test_values_of_the_wrong_type_are_refused(values: list[Any], feature_type: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        typed_column("x", pa.array(values), feature_type)
