from typing import Any

import pytest
from pydantic import ValidationError

from schemas.gate import GateOptions, GateRow, MetricBound


@pytest.mark.parametrize(
    ("bounds", "is_bounded"),
    [
        ({}, False),
        ({"lower_bound": 0.0}, True),
        ({"upper_bound": 0.0}, True),
        ({"change_bound": "better than the champion"}, True),
    ],
)
def test_a_bound_of_zero_is_a_bound(bounds: dict[str, Any], is_bounded: bool):
    fields = {"lower_bound": None, "upper_bound": None, "change_bound": None, **bounds}
    row = GateRow(slice="overall", metric="auc", candidate=0.5, champion=None, passed=True, sentence="", **fields)
    assert row.is_bounded is is_bounded


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"metric": "calibration", "policy": "superior"}, "'superior' has no meaning for calibration"),
        ({"metric": "example_count", "policy": "non_inferior", "margin": 1}, "has no meaning for example_count"),
        ({"metric": "auc", "policy": "non_inferior"}, "policy='non_inferior' with margin=0"),
        ({"metric": "auc", "policy": "superior", "margin": 0.01}, "policy='superior' with margin=0.01"),
        ({"metric": "auc", "margin": 0.01}, "policy='absolute' with margin=0.01"),
    ],
    ids=["neither-high-nor-low", "count", "no-margin", "superior-margin", "absolute-margin"],
)
def test_a_policy_that_cannot_be_judged_is_refused(bound: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        MetricBound.model_validate(bound)


def test_something_decides_without_a_champion():
    with pytest.raises(ValidationError, match="expected at least one bound with a minimum or a maximum"):
        GateOptions.model_validate({"bounds": [{"metric": "auc", "policy": "superior"}]})
