"""Which changes of the config weights can follow, and the reason given for those that they cannot."""

from typing import Any

import pytest

from schemas.carry_over import reason_against
from schemas.training import ModelShape

WIND = {"kind": "numeric"}
CARRIER = {"kind": "vocabulary", "capacity": 10}
HOUR = {"kind": "cyclic", "period": 24}
OUTCOME = {"name": "outcome", "task": "multiclass", "classes": ["early", "late"]}


def make_shape(
    features: dict[str, Any] | None = None, label: dict[str, Any] | None = None, fn: str | None = None, **model: Any
) -> ModelShape:
    """Return a shape."""
    feature_set = {
        "features": features or {"wind": WIND, "carrier": CARRIER},
        "label": label or {"name": "late"},
        "preprocessing_fn": fn,
    }
    return ModelShape.model_validate({"feature_set": feature_set, "model": model})


@pytest.mark.parametrize(
    ("base", "current"),
    [
        (make_shape(), make_shape()),
        (make_shape(), make_shape(dropout=0.5)),
        (make_shape(), make_shape(extension_units=(8,))),
        (make_shape(extension_units=(8,)), make_shape(extension_units=(8,))),
        (make_shape(), make_shape({"hour": HOUR, "carrier": CARRIER, "wind": WIND})),
        (make_shape(), make_shape({"wind": WIND, "carrier": {**CARRIER, "capacity": 5, "min_frequency": 3}})),
        (make_shape(label=OUTCOME), make_shape(label={**OUTCOME, "classes": ["early", "late", "never"]})),
        (make_shape(kind="custom", function="m:f"), make_shape(kind="custom", function="m:f", dropout=0.1)),
        (make_shape(fn="m:f"), make_shape(fn="m:f")),
    ],
    ids=[
        "same",
        "dropout",
        "extension",
        "same extension",
        "features",
        "vocabulary",
        "class",
        "own model",
        "own features",
    ],
)
def test_what_weights_can_follow(base: ModelShape, current: ModelShape) -> None:
    assert reason_against(base, current) is None


@pytest.mark.parametrize(
    ("base", "current", "reason"),
    [
        (make_shape(), make_shape(kind="dnn"), "model.kind changed from 'wide_deep' to 'dnn'."),
        (make_shape(), make_shape(hidden_units=(8,)), "model.hidden_units changed from (64, 32) to (8,)."),
        (make_shape(), make_shape(cross_layers=3), "model.cross_layers changed from 2 to 3."),
        (
            make_shape(kind="custom", function="m:f"),
            make_shape(kind="custom", function="m:g"),
            "model.function changed from 'm:f' to 'm:g'.",
        ),
        (
            make_shape(extension_units=(8,)),
            make_shape(),
            "model.extension_units changed from (8,) to ().",
        ),
        (make_shape(), make_shape({"wind": WIND}), "feature 'carrier' was removed."),
        (
            make_shape(),
            make_shape({"wind": WIND, "carrier": {**CARRIER, "num_oov_buckets": 2}}),
            "feature 'carrier' changed its num_oov_buckets from 1 to 2.",
        ),
        (
            make_shape(),
            make_shape({"wind": HOUR, "carrier": CARRIER}),
            "feature 'wind' changed its kind from 'numeric' to 'cyclic'.",
        ),
        (make_shape(), make_shape(fn="m:f"), "preprocessing_fn changed from None to 'm:f'."),
        (
            make_shape(fn="m:f"),
            make_shape({"wind": WIND, "carrier": CARRIER, "hour": HOUR}, fn="m:f"),
            "features changed, and only the author of 'm:f' knows what it makes of them.",
        ),
        (
            make_shape(kind="custom", function="m:f"),
            make_shape({"carrier": CARRIER, "wind": WIND}, kind="custom", function="m:f"),
            "features changed, and only the author of 'm:f' knows how it uses them.",
        ),
        (
            make_shape(),
            make_shape(label={"name": "delay", "task": "regression"}),
            "the label changed from 'late' (binary) to 'delay' (regression).",
        ),
        (
            make_shape(label=OUTCOME),
            make_shape(label={**OUTCOME, "classes": ["late", "early"]}),
            "classes changed from ['early', 'late'] to ['late', 'early']; only appending is possible.",
        ),
        (
            make_shape({"carrier": CARRIER}, OUTCOME, kind="linear"),
            make_shape({"carrier": CARRIER}, {**OUTCOME, "classes": ["early", "late", "never"]}, kind="linear"),
            "a class was appended, and a linear model of categories alone has no bias to start it with.",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_weights_cannot_follow_is_said(base: ModelShape, current: ModelShape, reason: str) -> None:
    assert reason_against(base, current) == reason
