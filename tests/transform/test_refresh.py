"""A graph refreshed on a base, by real Beam: what the base model learned from keeps its meaning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.errors import ConfigError
from schemas.analysis import Analysis, BucketAnalysis, NumericAnalysis, VocabularyAnalysis, token_text
from schemas.features import FeatureSet
from transform.preprocessing import preprocessing_fn

NAN, INF = float("nan"), float("inf")
FEATURES: dict[str, Any] = {
    "wind": {"kind": "numeric", "missing_indicator": True, "clip": 3.0},
    "calm": {"kind": "numeric"},
    "rain": {"kind": "numeric"},
    "depth": {"kind": "bucketized", "num_buckets": 4},
    "carrier": {"kind": "vocabulary", "capacity": 10, "num_oov_buckets": 2},
    "tag": {"kind": "vocabulary", "capacity": 3, "min_frequency": 2},
    "unseen": {"kind": "vocabulary", "capacity": 3},
    "added": {"kind": "vocabulary", "capacity": 3},
}
FEATURE_SET = FeatureSet.model_validate({"features": FEATURES, "label": {"name": "late"}})
WIND = NumericAnalysis(mean=5, scale=2, missing_value=4.5, low=-1, high=11)
CALM = NumericAnalysis(mean=0.5, scale=0.25, missing_value=0.5, low=0, high=1)
BASE = Analysis(
    features={
        "wind": WIND,
        "calm": CALM,
        "depth": BucketAnalysis(boundaries=(1, 2, 3.5)),
        "carrier": VocabularyAnalysis(
            tokens=("ZZ", "AA", token_text(b"\xff\\")), counts=(1, 7, 3), candidates={"C1": 1, "C2": 2}
        ),
        "tag": VocabularyAnalysis(tokens=("x", "y", "z"), counts=(5, 1, 2), candidates={"v": 3, "w": 1}),
        "unseen": VocabularyAnalysis(tokens=("old",), counts=(1,)),
    }
)
WINDS = [3.0, 8.0, 20.0, -6.0, 7.0, 9.5, NAN, INF, -INF, 1e30]
NAMES = [b"N1", b"N1", b"N2", b"AA", b"ZZ", b"C2", b"\xff\\", b"N3", b"N2", b"N1"]
TAGS = ["n", "n", "n", "n", "n", "y", "w", "x", "z", "v"]
KINDS = {"wind": tf.float32, "calm": tf.float32, "rain": tf.float32, "depth": tf.float32, "late": tf.int64}
SPEC = {name: tf.io.VarLenFeature(KINDS.get(name, tf.string)) for name in (*FEATURES, "late")}


@pytest.fixture(scope="module")
def refreshed(transform_rows: Callable[..., Any]) -> Any:
    rows = [
        {
            "wind": [wind],
            "calm": [0.75],
            "rain": [float(index)],
            "depth": [index / 2],
            "carrier": [name],
            "tag": [tag],
            "unseen": [],
            "added": [tag],
            "late": [index % 2],
        }
        for index, (wind, name, tag) in enumerate(zip(WINDS, NAMES, TAGS, strict=True))
    ]
    return transform_rows(FEATURE_SET, SPEC, rows, BASE)


@pytest.mark.slow
def test_rescaled_numbers_stand_for_the_same_values(refreshed: Any) -> None:
    mean, scale, *constants = refreshed.columns["wind_scaling"][0].astype(np.float64)
    known = np.clip(np.array(WINDS)[np.isfinite(WINDS)], WIND.low, WIND.high)
    np.testing.assert_allclose([mean, scale], [known.mean(), known.std()], rtol=1e-6)
    assert constants == [WIND.missing_value, WIND.low, WIND.high]
    values = np.clip(np.where(np.isnan(WINDS), WIND.missing_value, WINDS), WIND.low, WIND.high)
    np.testing.assert_allclose(refreshed.columns["wind"][:, 0] * scale + mean, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(refreshed.columns["wind_missing"][:, 0], np.isnan(WINDS))


@pytest.mark.slow
def test_numbers_without_spread_keep_their_scaling_and_new_ones_are_analysed(refreshed: Any) -> None:
    assert refreshed.columns["calm_scaling"][0].tolist() == [0.5, 0.25, 0.5, 0, 1]
    assert refreshed.columns["calm"][:, 0].tolist() == [1.0] * 10
    deviation = np.arange(10).std()
    expected = [4.5, deviation, 4.5, 4.5 - 10 * deviation, 4.5 + 10 * deviation]
    np.testing.assert_allclose(refreshed.columns["rain_scaling"][0], expected, rtol=1e-6)


@pytest.mark.slow
def test_boundaries_stay(refreshed: Any) -> None:
    assert refreshed.columns["depth_boundaries"][0].tolist() == [1, 2, 3.5]
    assert refreshed.columns["depth"][:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.slow
def test_known_tokens_keep_their_ids_and_new_ones_follow(refreshed: Any) -> None:
    expected = [b"ZZ", b"AA", b"\xff\\", b"C2", b"C1", b"N1", b"N2", b"N3"]
    assert refreshed.output.vocabulary_by_name("carrier") == expected
    assert refreshed.columns["carrier"][:, 0].tolist() == [expected.index(name) for name in NAMES]
    # Then comes what TensorFlow Transform writes for a window without tokens.
    assert refreshed.output.vocabulary_by_name("unseen")[:1] == [b"old"]
    assert set(refreshed.output.vocabulary_by_name("added")) < {tag.encode() for tag in TAGS}


@pytest.mark.slow
def test_full_vocabulary_evicts_the_least_frequent_alone(refreshed: Any) -> None:
    # `v` came in from the candidates in place of `y`; `n` is new, and must wait until it has been counted.
    assert refreshed.output.vocabulary_by_name("tag")[:3] == [b"x", b"z", b"v"]
    ids = dict(zip(TAGS, refreshed.columns["tag"][:, 0].tolist(), strict=True))
    assert ids == {"x": 0, "z": 1, "v": 2, "n": 3, "y": 3, "w": 3}


def test_other_number_of_buckets_is_refused() -> None:
    feature_set = FeatureSet.model_validate(
        {"features": {"depth": {"kind": "bucketized", "num_buckets": 5}}, "label": {"name": "late"}}
    )
    config = {"feature_set": feature_set.model_dump_json(), "base_analysis": BASE.model_dump_json()}
    with pytest.raises(ConfigError, match=r"'depth' has another.*Expected num_buckets=4; received num_buckets=5"):
        preprocessing_fn({"depth": tf.constant([1.0]), "late": tf.constant([1])}, config)
