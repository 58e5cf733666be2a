"""The transform graph computes what NumPy and pandas compute from the same rows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from core.errors import ConfigError, SchemaError, UserCodeError
from schemas.features import FeatureSet
from schemas.transformed import DenseInput, model_inputs
from transform.preprocessing import preprocessing_fn

SPARSE_STRING = tf.io.VarLenFeature(tf.string)
SPARSE_FLOAT = tf.io.VarLenFeature(tf.float32)
SPARSE_INT = tf.io.VarLenFeature(tf.int64)
NAN, INF = float("nan"), float("inf")
Rows = list[dict[str, Any]]


def _feature_set(label: dict[str, Any] | None = None, **features: dict[str, Any]) -> FeatureSet:
    return FeatureSet.model_validate({"features": features, "label": label or {"name": "late"}})


def _column(name: str, values: list[Any], **others: list[Any]) -> Rows:
    columns = {name: values, "late": [[index % 2] for index in range(len(values))], **others}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.slow
def test_all_kinds_agree_with_numpy_and_pandas(transform_rows: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    wind = [[float(value)] for value in random.gamma(2.0, 5.0, 40)] + [[], [NAN], [INF], [-INF]]
    carriers = [[f"C{index}"] for index in random.geometric(0.4, 42)] + [[], [""]]
    tags = [["x", "y"], [], ["z"], ["x", "", "y", "z", "late"]] * 11
    rows = _column(
        "wind",
        wind,
        count=[7 * index % 44 for index in range(44)],
        depth=[[float(index)] for index in range(40)] + [[], [NAN], [INF], [-INF]],
        carrier=carriers,
        number=[[index % 3] for index in range(44)],
        tags=tags,
        tailnum=[[f"N{index % 5}"] for index in range(43)] + [[""]],
        hour=[[index] for index in range(43)] + [[]],
        nothing=[[]] * 44,
    )
    feature_set = _feature_set(
        wind={"kind": "numeric", "missing_indicator": True, "clip": 3.0},
        count={"kind": "numeric"},
        depth={"kind": "bucketized", "num_buckets": 4},
        carrier={"kind": "vocabulary", "capacity": 3, "num_oov_buckets": 2, "min_frequency": 2},
        number={"kind": "vocabulary", "capacity": 9},
        tags={"kind": "vocabulary", "multivalued": True, "max_values": 3},
        tailnum={"kind": "hashed", "num_buckets": 11},
        hour={"kind": "cyclic", "period": 24},
        nothing={"kind": "bucketized", "num_buckets": 5},
    )
    spec = {
        "wind": SPARSE_FLOAT,
        "count": tf.io.FixedLenFeature([], tf.int64),
        "depth": SPARSE_FLOAT,
        "carrier": SPARSE_STRING,
        "number": SPARSE_INT,
        "tags": SPARSE_STRING,
        "tailnum": tf.io.FixedLenFeature([1], tf.string),
        "hour": SPARSE_INT,
        "nothing": SPARSE_FLOAT,
        "late": SPARSE_INT,
    }
    received = transform_rows(feature_set, spec, rows).columns

    analysed = {"wind_scaling": 5, "count_scaling": 5, "depth_boundaries": 3, "nothing_boundaries": 4}
    assert set(received) == {item.name for item in model_inputs(feature_set)} | set(analysed) | {"late"}
    for name, width in analysed.items():
        assert (received[name].dtype, received[name].shape) == (np.float32, (44, width))
        np.testing.assert_array_equal(received[name], received[name][:1].repeat(44, axis=0))
    for item in model_inputs(feature_set):
        dtype, width = (np.float32, 1) if isinstance(item, DenseInput) else (np.int64, item.num_values)
        assert (received[item.name].dtype, received[item.name].shape) == (dtype, (44, width))

    known = np.array([value for (value,) in wind[:40]])
    mean, deviation = known.mean(), known.std()
    scaling = received["wind_scaling"][0].astype(np.float64)
    np.testing.assert_allclose(scaling, [mean, deviation, mean, mean - 3 * deviation, mean + 3 * deviation], rtol=1e-6)
    exact = (np.clip(np.float32(known), *scaling[3:]) - scaling[0]) / scaling[1]
    np.testing.assert_allclose(received["wind"][:40, 0], exact, rtol=1e-6)
    scores = np.clip((known - mean) / deviation, -3, 3)
    np.testing.assert_allclose(received["wind"][:, 0], [*scores, 0, 0, 3, -3], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(received["wind_missing"][:, 0], [0] * 40 + [1, 1, 0, 0])
    counts = np.arange(44) * 7 % 44
    np.testing.assert_allclose(received["count"][:, 0], (counts - counts.mean()) / counts.std(), rtol=1e-4, atol=1e-5)

    quartiles = pd.qcut(np.arange(40), 4, labels=False)
    boundaries = received["depth_boundaries"][0]
    np.testing.assert_array_equal(received["depth"][:40, 0], np.searchsorted(boundaries, np.arange(40), side="right"))
    assert np.abs(received["depth"][:40, 0] - quartiles).sum() <= 4, "boundaries are approximate quantiles"
    assert received["depth"][40:, 0].tolist() == [4, 4, 3, 0]
    assert set(received["nothing"][:, 0]) == {5}

    # Descending frequency; ties in reverse lexicographical order, as TensorFlow Transform documents.
    tokens = pd.Series([token for (token,) in carriers[:42]])
    frequencies = tokens.value_counts()
    frequent = sorted(frequencies[frequencies >= 2].index, key=lambda token: (frequencies[token], token), reverse=True)
    vocabulary = {token: index for index, token in enumerate(frequent[:3])}
    for token, index in zip(tokens, received["carrier"][:42, 0], strict=True):
        assert index == vocabulary[token] if token in vocabulary else index in (3, 4)
    assert received["carrier"][42:, 0].tolist() == [-1, -1]
    assert received["number"][:3, 0].tolist() == [1, 0, 2]

    ids = {"x": received["tags"][0, 0], "y": received["tags"][0, 1], "z": received["tags"][2, 0]}
    assert sorted(ids.values()) == [0, 1, 2]
    assert received["tags"][:4].tolist() == [
        [ids["x"], ids["y"], -1],
        [-1, -1, -1],
        [ids["z"], -1, -1],
        [ids["x"], -1, ids["y"]],
    ]
    assert len(set(received["tailnum"][:5, 0])) <= 5
    np.testing.assert_array_equal(received["tailnum"][:5], received["tailnum"][5:10])
    assert received["tailnum"][43, 0] == -1

    angles = 2 * math.pi * np.arange(43) / 24
    np.testing.assert_allclose(received["hour_sin"][:, 0], [*np.sin(angles), 0], atol=1e-5)
    np.testing.assert_allclose(received["hour_cos"][:, 0], [*np.cos(angles), 0], atol=1e-5)
    np.testing.assert_array_equal(received["late"][:, 0], [index % 2 for index in range(44)])


@pytest.mark.slow
def test_classes_become_their_index(transform_rows: Callable[..., Any]) -> None:
    label = {"name": "outcome", "task": "multiclass", "classes": ["early", "late"]}
    rows = [{"hour": 1, "outcome": values} for values in (["late"], ["early"], ["unlisted"], [])]
    spec = {"hour": tf.io.FixedLenFeature([], tf.int64), "outcome": SPARSE_STRING}
    received = transform_rows(_feature_set(label, hour={"kind": "cyclic", "period": 24}), spec, rows).columns
    assert received["outcome"].tolist() == [[1], [0], [-1], [-1]]
    assert received["outcome"].dtype == np.int64


def _call(feature_set: FeatureSet, **inputs: Any) -> dict[str, tf.Tensor]:
    columns = {name: tf.constant(values) for name, values in inputs.items()}
    return preprocessing_fn(columns, {"feature_set": feature_set.model_dump_json()})


def test_dense_ragged_and_sparse_columns_give_the_same_ids() -> None:
    feature_set = _feature_set(tags={"kind": "hashed", "num_buckets": 9, "multivalued": True, "max_values": 3})
    ragged = tf.ragged.constant([["a", "b"], [], ["c", "d", "e", "f"]])
    forms = [ragged, ragged.to_sparse(), ragged.to_tensor("")]
    ids = [
        preprocessing_fn({"tags": form, "late": tf.constant([0, 1, 0])}, {"feature_set": feature_set.model_dump_json()})
        for form in forms
    ]
    for other in ids[1:]:
        np.testing.assert_array_equal(ids[0]["tags"], other["tags"])
    assert ids[0]["tags"].shape == (3, 3)


def test_missing_label_stays_recognisable() -> None:
    received = _call(_feature_set(hour={"kind": "cyclic", "period": 24}), hour=[1.0, 2.0], late=[[NAN], [1.0]])
    assert np.isnan(received["late"].numpy()[0, 0])


@pytest.mark.parametrize(
    ("features", "shared"),
    [
        ({"wind": {"kind": "numeric"}, "wind_scaling": {"kind": "hashed"}}, "wind_scaling"),
        ({"wind": {"kind": "bucketized"}, "wind_boundaries": {"kind": "hashed"}}, "wind_boundaries"),
        ({"late_sin": {"kind": "hashed"}, "late": {"kind": "cyclic", "period": 24}}, "late_sin"),
    ],
    ids=["scaling", "boundaries", "sine"],
)
def test_outputs_that_would_share_a_name_are_refused(features: dict[str, Any], shared: str) -> None:
    columns = {name: [1] for name in features}
    with pytest.raises(ConfigError, match=rf"would share names.*received \['{shared}'\] twice.*Rename the column"):
        _call(_feature_set({"name": "label"}, **features), **columns, label=[1])


def test_feature_without_column_is_named() -> None:
    with pytest.raises(SchemaError, match=r"Column 'carier' is in the config but not in the schema.*mean 'carrier'\?"):
        _call(_feature_set(carier={"kind": "hashed"}), carrier=["AA"], late=[1])


def test_label_without_column_is_named() -> None:
    with pytest.raises(SchemaError, match="Column 'late' is in the config but not in the schema"):
        _call(_feature_set(carrier={"kind": "hashed"}), carrier=["AA"])


def test_strings_cannot_be_numbers() -> None:
    with pytest.raises(SchemaError, match="Column 'carrier' holds strings and cannot be a number"):
        _call(_feature_set(carrier={"kind": "cyclic", "period": 3}), carrier=["AA"], late=[1])


def test_floats_cannot_be_categories() -> None:
    with pytest.raises(SchemaError, match="Column 'wind' holds floats and cannot be a category"):
        _call(_feature_set(wind={"kind": "hashed"}), wind=[1.5], late=[1])


def usable(columns: dict[str, Any]) -> dict[str, Any]:
    """A user's preprocessing_fn; the label must not reach it."""
    assert "late" not in columns
    return {"wind": tf.cast(columns["wind"] * 2, tf.float32)[:, tf.newaxis]}


def raising(columns: dict[str, Any]) -> dict[str, Any]:
    """A user's preprocessing_fn that raises."""
    return {"wind": columns["wing"]}


def misshapen(columns: dict[str, Any]) -> dict[str, Any]:
    """A user's preprocessing_fn that returns another shape, type and name."""
    return {"wind": columns["wind"], "extra": columns["wind"]}


def test_user_function_is_used_and_never_sees_the_label() -> None:
    feature_set = _user_feature_set("usable")
    assert _call(feature_set, wind=[1.0, 2.0], late=[0, 1])["wind"].numpy().tolist() == [[2.0], [4.0]]


def test_user_function_cannot_be_refreshed() -> None:
    config = {"feature_set": _user_feature_set("usable").model_dump_json(), "base_analysis": '{"features": {}}'}
    with pytest.raises(ConfigError, match=r"preprocessing_fn '.*:usable' cannot be refreshed.*Plan a cold start"):
        preprocessing_fn({"wind": tf.constant([1.0]), "late": tf.constant([1])}, config)


def test_user_function_that_raises_is_named() -> None:
    with pytest.raises(UserCodeError, match=r"preprocessing_fn '.*:raising' raised KeyError: 'wing'"):
        _call(_user_feature_set("raising"), wind=[1.0], late=[1])


def test_user_function_with_other_outputs_is_named() -> None:
    with pytest.raises(
        UserCodeError, match=r"returned 2 tensors.*'extra': \('none', 'float32\[1\]'\).*'float32\[None, 1\]'"
    ):
        _call(_user_feature_set("misshapen"), wind=[1.0], late=[1])


def _user_feature_set(function: str) -> FeatureSet:
    return _feature_set(wind={"kind": "numeric"}).model_copy(update={"preprocessing_fn": f"{__name__}:{function}"})
