"""The analysis that travels with a model says what the graph does, follows a refresh, and refuses a foreign graph."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.errors import TrainingError
from schemas.analysis import Analysis, BucketAnalysis, NumericAnalysis, VocabularyAnalysis, token_text
from schemas.features import FeatureSet
from trainer.analysis import check_fits, load_analysis, read_analysis, write_analysis
from trainer.input_data import matching_files
from trainer.survey import survey_examples
from trainer.transform_graph import TransformGraph


@dataclass(frozen=True)
class Analysed:
    """A graph, what was read from it, and the rows it was analysed on."""

    graph: TransformGraph
    analysis: Analysis
    rows: list[dict[str, Any]]

    def transform(self, serialized: list[bytes]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: tensor.numpy() for name, tensor in self.graph.features(tf.constant(serialized)).items()}


def _analysed(flights: Any, base: Analysis | None) -> Analysed:
    graph = TransformGraph(flights.graph, flights.feature_set)
    survey = survey_examples(matching_files([flights.files]), flights.feature_set, graph.raw_types)
    return Analysed(graph, read_analysis(graph, base=base, token_counts=survey.token_counts), flights.rows)


@pytest.fixture(scope="module")
def cold(flights: Any) -> Analysed:
    return _analysed(flights, None)


@pytest.fixture(scope="module")
def refreshed(cold: Analysed, refreshed_flights: Any) -> Analysed:
    return _analysed(refreshed_flights, cold.analysis)


def _counts(rows: list[dict[str, Any]], name: str, num_values: int) -> Counter[str]:
    return Counter(token for row in rows for token in row[name][:num_values])


def _dict(analysis: Any) -> dict[str, int]:
    return dict(zip(analysis.tokens, analysis.counts, strict=True))


@pytest.mark.slow
def test_analysis_says_what_the_graph_does(cold: Analysed, flights: Any) -> None:
    features = cold.analysis.features
    assert list(features) == ["carrier", "tags", "distance", "wind"], "cyclic and hashed features need none"
    assert _dict(features["carrier"]) == _counts(cold.rows, "carrier", 1)
    assert _dict(features["tags"]) == _counts(cold.rows, "tags", 3)
    transformed = cold.transform(flights.serialized)
    ids = {token: index for index, token in enumerate(features["carrier"].tokens)}
    for row, index in zip(cold.rows, transformed["carrier"][:, 0], strict=True):
        assert index == (ids[row["carrier"][0]] if row["carrier"] else -1)
    distances = np.array([row["distance"][0] if row["distance"] else np.nan for row in cold.rows], np.float32)
    buckets = np.searchsorted(features["distance"].boundaries, distances, side="right")
    np.testing.assert_array_equal(transformed["distance"][:, 0], np.where(np.isnan(distances), 4, buckets))
    wind = features["wind"]
    winds = np.array([row["wind"][0] if row["wind"] else wind.missing_value for row in cold.rows])
    expected = (np.clip(winds, wind.low, wind.high) - wind.mean) / wind.scale
    np.testing.assert_allclose(transformed["wind"][:, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_refresh_moves_nothing_that_the_base_knows(
    cold: Analysed, refreshed: Analysed, flights: Any, refreshed_flights: Any, make_examples: Any
) -> None:
    absurd = [
        example for value in (1e30, -5e8, float("inf"), float("nan")) for example in make_examples(1, wind=[value])
    ]
    serialized = [*flights.serialized, *refreshed_flights.serialized, *absurd]
    before, after = cold.transform(serialized), refreshed.transform(serialized)
    old, new = cold.analysis.features["wind"], refreshed.analysis.features["wind"]
    assert (old.mean, old.scale) != (new.mean, new.scale)
    np.testing.assert_allclose(
        after["wind"] * new.scale + new.mean, before["wind"] * old.scale + old.mean, rtol=1e-5, atol=1e-5
    )
    known = before["carrier"] < 6
    np.testing.assert_array_equal(after["carrier"][known], before["carrier"][known])
    assert set(before["carrier"][~known]) == {20}
    assert set(after["carrier"][~known]) == {6}
    for name in ("distance", "tags", "tailnum", "hour_sin", "wind_missing"):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.slow
def test_counts_go_on_over_a_refresh(cold: Analysed, refreshed: Analysed) -> None:
    known = cold.analysis.features["carrier"].tokens
    assert refreshed.analysis.features["carrier"].tokens == (*known, "NEW")
    rows = [*cold.rows, *refreshed.rows]
    assert _dict(refreshed.analysis.features["carrier"]) == _counts(rows, "carrier", 1)
    assert _dict(refreshed.analysis.features["tags"]) == _counts(rows, "tags", 3)
    check_fits(cold.analysis, refreshed.analysis, cold.graph.feature_set)
    check_fits(cold.analysis, cold.analysis, cold.graph.feature_set)
    with pytest.raises(TrainingError, match="'carrier': 1 tokens are gone from a vocabulary that has room for 20"):
        check_fits(refreshed.analysis, cold.analysis, cold.graph.feature_set)


@pytest.mark.slow
def test_tokens_outside_the_vocabulary_are_candidates(flights: Any) -> None:
    features = {"carrier": {"kind": "vocabulary", "capacity": 3}}
    feature_set = FeatureSet.model_validate({"features": features, "label": {"name": "late"}})
    graph = TransformGraph(flights.graph, feature_set)
    tokens = graph.vocabulary("carrier")
    assert len(tokens) == 3
    base = VocabularyAnalysis(tokens=("gone", tokens[0]), counts=(9, 5), candidates={"a": 2, tokens[1]: 3, "b": 2})
    analysis = read_analysis(
        graph,
        base=Analysis(features={"carrier": base}),
        token_counts={"carrier": Counter({tokens[1]: 10, "b": 1, "c": 2, "d": 1})},
    )
    assert analysis.features["carrier"] == VocabularyAnalysis(
        tokens=tokens, counts=(5, 13, 0), candidates={"gone": 9, "b": 3, "a": 2}
    )


def test_user_function_has_no_analysis(flights: Any) -> None:
    feature_set = flights.feature_set.model_copy(update={"preprocessing_fn": "module:function"})
    graph = TransformGraph(flights.graph, feature_set)
    assert read_analysis(graph, base=None, token_counts={}) == Analysis(features={})


@pytest.mark.slow
def test_graph_that_does_not_say_what_it_knows_is_refused(flights: Any) -> None:
    feature_set = FeatureSet.model_validate({"features": {"hour": {"kind": "numeric"}}, "label": {"name": "late"}})
    with pytest.raises(TrainingError, match=r"does not say.*received none of \['hour_scaling'\].*Plan a cold start"):
        read_analysis(TransformGraph(flights.graph, feature_set), base=None, token_counts={})


NUMERIC = NumericAnalysis(mean=1, scale=2, missing_value=1, low=-9, high=11)
BUCKETS = BucketAnalysis(boundaries=(1, 2))
VOCABULARY = VocabularyAnalysis(tokens=("a", "b", "c"), counts=(3, 2, 1))
SMALL = FeatureSet.model_validate({"features": {"x": {"kind": "vocabulary", "capacity": 3}}, "label": {"name": "late"}})


@pytest.mark.parametrize(
    ("base", "current"),
    [
        (NUMERIC, NUMERIC.model_copy(update={"mean": 5.0, "scale": 0.1})),
        (BUCKETS, BUCKETS),
        (VOCABULARY, VOCABULARY.model_copy(update={"tokens": ("a", "c", "d")})),
        (None, NUMERIC),
    ],
    ids=["rescaled", "buckets", "evicted at capacity", "added"],
)
def test_graph_refreshed_from_the_base_fits(base: Any, current: Any) -> None:
    check_fits(Analysis(features={"x": base} if base else {}), Analysis(features={"x": current}), SMALL)


@pytest.mark.parametrize(
    ("base", "current", "reason"),
    [
        (NUMERIC, NUMERIC.model_copy(update={"missing_value": 0.0}), "missing_value was 1.0 and is 0.0"),
        (NUMERIC, NUMERIC.model_copy(update={"low": -8.0}), "low was -9.0 and is -8.0"),
        (NUMERIC, NUMERIC.model_copy(update={"high": 12.0}), "high was 11.0 and is 12.0"),
        (NUMERIC, BUCKETS, "the kind was numeric and is bucketized"),
        (NUMERIC, None, "the feature is gone"),
        (BUCKETS, BucketAnalysis(boundaries=(1, 3)), "the bucket boundaries differ"),
        (VOCABULARY, VOCABULARY.model_copy(update={"tokens": ("b", "a", "c")}), "changed their order"),
        (VOCABULARY, VOCABULARY.model_copy(update={"tokens": ("d", "a", "b")}), "changed their order"),
        (VOCABULARY, VOCABULARY.model_copy(update={"tokens": ("a", "b")}), "1 tokens are gone"),
    ],
    ids=["missing value", "low", "high", "kind", "gone", "boundaries", "permuted", "in front", "vanished"],
)
def test_foreign_graph_is_refused(base: Any, current: Any, reason: str) -> None:
    with pytest.raises(TrainingError, match=rf"does not fit the base model in 1 features.*'x': .*{reason}"):
        check_fits(Analysis(features={"x": base}), Analysis(features={"x": current} if current else {}), SMALL)


def test_written_analysis_is_loaded(tmp_path: Path) -> None:
    tokens = tuple(map(token_text, (b"AA", b"\xff", "Zürich".encode(), b"\\")))
    vocabulary = VocabularyAnalysis(tokens=tokens, counts=(4, 3, 2, 1), candidates={"z": 2, "a": 1})
    tenth = float(np.float32(0.1))
    numeric = NumericAnalysis(mean=tenth, scale=1e-38, missing_value=tenth, low=-3.4e38, high=3.4e38)
    analysis = Analysis(features={"x": numeric, "y": BUCKETS, "z": vocabulary})
    write_analysis(tmp_path, analysis)
    assert load_analysis(tmp_path) == analysis


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "FileNotFoundError"), (b'{"features"', "ValidationError"), (b"\xff", "ValidationError")],
    ids=["missing", "cut off", "binary"],
)
def test_unreadable_analysis_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "analysis.json").write_bytes(content)
    with pytest.raises(TrainingError, match=rf"{tmp_path.name} does not say.*received {reason}.*plan a cold start"):
        load_analysis(tmp_path)
