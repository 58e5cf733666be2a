"""Laws of the transforms that need no analysis: outputs stay in range whatever comes in; batching changes nothing."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import FeatureSet
from transform.preprocessing import preprocessing_fn

NUM_BUCKETS = 7
FEATURE_SET = FeatureSet.model_validate(
    {
        "features": {
            "tags": {"kind": "hashed", "num_buckets": NUM_BUCKETS, "multivalued": True, "max_values": 3},
            "hour": {"kind": "cyclic", "period": 24},
        },
        "label": {"name": "late"},
    }
)
Example = tuple[list[str], float]
EXAMPLES = st.lists(
    st.tuples(st.lists(st.text(max_size=5), max_size=5), st.floats(width=32)),  # NaN and infinity included
    min_size=1,
    max_size=5,
)


def _transform(examples: list[Example]) -> dict[str, np.ndarray[Any, Any]]:
    columns = {
        "tags": tf.ragged.constant([tags for tags, _ in examples], tf.string, ragged_rank=1),
        "hour": tf.constant([hour for _, hour in examples], tf.float32),
        "late": tf.zeros(len(examples), tf.int64),
    }
    outputs = preprocessing_fn(columns, {"feature_set": FEATURE_SET.model_dump_json()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


@settings(deadline=None)
@given(examples=EXAMPLES)
def test_ids_are_in_range_and_padding_marks_exactly_the_empty(examples: list[Example]) -> None:
    ids = _transform(examples)["tags"]
    assert ids.shape == (len(examples), 3)
    for (tags, _), row in zip(examples, ids, strict=True):
        padded = (tags + [""] * 3)[:3]
        assert [index == -1 for index in row] == [tag == "" for tag in padded]
        assert all(-1 <= index < NUM_BUCKETS for index in row)


@settings(deadline=None)
@given(examples=EXAMPLES)
def test_cyclic_values_lie_on_the_circle_or_in_its_centre(examples: list[Example]) -> None:
    outputs = _transform(examples)
    radius = np.hypot(outputs["hour_sin"], outputs["hour_cos"])[:, 0]
    expected = [1.0 if math.isfinite(hour) else 0.0 for _, hour in examples]
    assert radius.tolist() == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(examples=EXAMPLES)
def test_any_batching_gives_the_same_outputs(examples: list[Example]) -> None:
    whole = _transform(examples)
    alone = [_transform([example]) for example in examples]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([outputs[name] for outputs in alone]))
