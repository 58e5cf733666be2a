import numpy as np
import pandas as pd
import pytest

from benchmarks.continual.analysis import analyse, apply, counted
from schemas.analysis import NumericAnalysis, VocabularyAnalysis
from schemas.features import FeatureSet

FEATURES = {
    "temp": {"kind": "numeric", "missing_indicator": True, "clip": 2},
    "minute": {"kind": "bucketized", "num_buckets": 4},
    "carrier": {"kind": "vocabulary", "capacity": 3, "num_oov_buckets": 2},
    "hour": {"kind": "cyclic", "period": 24},
    "tail": {"kind": "hashed", "num_buckets": 5},
}


@pytest.fixture
def feature_set():
    return FeatureSet.model_validate({"features": FEATURES, "label": {"name": "late"}})


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "temp": [0.0, 2.0, 4.0, np.nan],
            "minute": [10.0, 20.0, 30.0, np.nan],
            "carrier": ["UA", "UA", "AA", None],
            "hour": [0, 6, 12, 18],
            "tail": ["N1", "N2", "N1", "N3"],
        }
    )


def test_numbers_are_scaled_clipped_and_filled(feature_set, frame):
    analysis = analyse(frame, feature_set)
    absurd = frame.assign(temp=[1e9, -1e9, 2.0, np.nan])
    assert apply(absurd, analysis, feature_set)["temp"].ravel() == pytest.approx([2, -2, 0, 0])
    assert apply(absurd, analysis, feature_set)["temp_missing"].ravel().tolist() == [0, 0, 0, 1]


def test_a_missing_number_has_the_last_bucket(feature_set, frame):
    buckets = apply(frame, analyse(frame, feature_set), feature_set)["minute"].ravel()
    assert buckets[3] == 4
    assert np.all(np.diff(buckets[:3]) > 0)


def test_unknown_tokens_have_ids_from_the_capacity_on_and_none_is_padding(feature_set, frame):
    analysis = analyse(frame, feature_set)
    ids = apply(frame.assign(carrier=["UA", "AA", "new", None]), analysis, feature_set)["carrier"].ravel()
    assert ids[:2].tolist() == [0, 1]
    assert ids[2] in (3, 4)
    assert ids[3] == -1


def test_hashes_and_circles_need_no_analysis(feature_set, frame):
    inputs = apply(frame, analyse(frame, feature_set), feature_set)
    assert inputs["hour_sin"].ravel() == pytest.approx([0, 1, 0, -1], abs=1e-6)
    assert inputs["tail"][0] == inputs["tail"][2]


def test_a_refresh_keeps_ids_and_raw_constants_and_rescales(feature_set, frame):
    base = analyse(frame, feature_set)
    later = frame.assign(temp=[10.0, 20.0, 30.0, 40.0], minute=[1.0, 2.0, 3.0, 4.0], carrier=["WN", "WN", "AA", "UA"])
    refreshed = analyse(later, feature_set, counted(base, later, feature_set))
    before, after = base.features["temp"], refreshed.features["temp"]
    assert isinstance(before, NumericAnalysis)
    assert isinstance(after, NumericAnalysis)
    assert after.mean == 25
    assert (after.low, after.high, after.missing_value) == (before.low, before.high, before.missing_value)
    assert refreshed.features["minute"] == base.features["minute"]
    vocabulary = refreshed.features["carrier"]
    assert isinstance(vocabulary, VocabularyAnalysis)
    assert vocabulary.tokens == ("UA", "AA", "WN")


def test_counting_keeps_ids_and_remembers_candidates(feature_set, frame):
    base = analyse(frame, feature_set)
    after = counted(base, frame.assign(carrier=["UA", "WN", "WN", "B6"]), feature_set).features["carrier"]
    assert after == VocabularyAnalysis(tokens=("UA", "AA"), counts=(3, 1), candidates={"WN": 2, "B6": 1})
