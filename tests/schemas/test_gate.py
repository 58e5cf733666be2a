from typing import Any

import pytest

from schemas.gate import GateRow


@pytest.mark.parametrize(
    ("bounds", "is_bounded"),
    [
        ({}, False),
        ({"lower_bound": 0.0}, True),
        ({"upper_bound": 0.0}, True),
        ({"change_bound": "at least -0.01"}, True),
    ],
)
def test_a_bound_of_zero_is_a_bound(bounds: dict[str, Any], is_bounded: bool):
    fields = {"lower_bound": None, "upper_bound": None, "change_bound": None, **bounds}
    row = GateRow(slice="overall", metric="auc", candidate=0.5, champion=None, passed=True, sentence="", **fields)
    assert row.is_bounded is is_bounded
