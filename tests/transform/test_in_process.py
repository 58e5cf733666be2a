"""The analysis in process finds what TensorFlow Transform finds on Beam, for analyzers of every common kind."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.tf_metadata import schema_utils

from transform.in_process import InProcessTransform

NAN, INF = float("nan"), float("inf")
# Sums are added in another order: a few units in the last place of float32.
RELATIVE_ERROR = 1e-6
SPEC = {
    "x": tf.io.FixedLenFeature([], tf.float32),
    "y": tf.io.FixedLenFeature([2], tf.float32),
    "n": tf.io.FixedLenFeature([1], tf.int64),
    "tags": tf.io.VarLenFeature(tf.string),
    "ragged": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
}
Outputs = dict[str, tf.Tensor]

SCHEMA = schema_utils.schema_from_feature_spec(SPEC)


def _common_analyzers(inputs: dict[str, Any]) -> Outputs:
    """Use every analyzer of one pass over the examples; constants come once a row."""
    x, y, tags, pieces = inputs["x"], inputs["y"], inputs["tags"], inputs["ragged"].to_tensor(shape=(None, 3))
    known = tf.boolean_mask(x, tf.math.is_finite(x))
    constants = {
        "mean": tft.mean(known),
        "var": tft.var(known),
        "least": tft.min(known),
        "most": tft.max(known),
        "sum": tft.sum(known),
        "size": tf.cast(tft.size(known), tf.float32),
        "means": tft.mean(y, reduce_instance_dims=False),
        "covariance": tft.covariance(y, tf.float32),
        "pca": tft.pca(y, 1, tf.float32),
        "quantiles": tft.quantiles(known, 3, epsilon=0.01),
    }
    size = tf.shape(x)[0]
    rows = {name: tf.tile(tf.reshape(value, (1, -1)), (size, 1)) for name, value in constants.items()}
    weights = tf.exp(y)
    words = tf.strings.as_string(tf.cast(tf.round(y), tf.int64))
    vocabularies = {
        "all": tft.compute_and_apply_vocabulary(tags, vocab_filename="all"),
        "top": tft.compute_and_apply_vocabulary(tags, top_k=2, vocab_filename="top", num_oov_buckets=2),
        "frequent": tft.compute_and_apply_vocabulary(tags, frequency_threshold=3, vocab_filename="frequent"),
        "nothing": tft.compute_and_apply_vocabulary(tags, frequency_threshold=99, vocab_filename="nothing"),
        "shuffled": tft.compute_and_apply_vocabulary(tags, fingerprint_shuffle=True, vocab_filename="shuffled"),
        "ints": tft.compute_and_apply_vocabulary(inputs["n"], top_k=5, vocab_filename="ints"),
        "weighted": tft.compute_and_apply_vocabulary(words, weights=weights, vocab_filename="weighted"),
        "pieces": tft.compute_and_apply_vocabulary(pieces, vocab_filename="pieces"),
        "zipped": tft.compute_and_apply_vocabulary(tags, vocab_filename="zipped", file_format="tfrecord_gzip"),
    }
    tft.vocabulary(words, vocab_filename="counted", store_frequency=True, reserved_tokens=["0", "new"])
    return {
        **rows,
        **vocabularies,
        "unit": tft.scale_to_0_1(y, elementwise=True),
        "score": tft.scale_to_z_score(y),
        "bucket": tft.bucketize(y, 4),
        "hashed": tft.hash_strings(tags, 7),
    }


def _analyzers_in_turn(inputs: dict[str, Any]) -> Outputs:
    """Use analyzers that depend on what others find: a scaled score, its mean, and the last id of a vocabulary."""
    ids = tft.compute_and_apply_vocabulary(inputs["ragged"].to_tensor(shape=(None, 3)), vocab_filename="pieces")
    scaled = tft.scale_to_0_1(tft.scale_to_z_score(inputs["y"]) ** 2)
    return {"scaled": scaled, "centred": scaled - tft.mean(scaled), "reversed": tft.max(ids) - ids}


def _row(x: float, y: list[float], n: int, tags: list[Any], ragged: list[Any]) -> dict[str, Any]:
    return {"x": x, "y": y, "n": [n], "tags": tags, "ragged": ragged}


def _rows() -> list[dict[str, Any]]:
    """Rows with missing and infinite values, ties, several tokens, and tokens that are no text or fit on no line."""
    random = np.random.default_rng(3)
    tags = [["a", "b"], ["b", "a"], [], ["c"], [""], ["d\ne"], [b"\xff"], ["a", "ü", "c"], ["e", "f"], ["f", "e"]]
    return [
        _row(
            [NAN, INF, -INF, 2.0, -7.5][index] if index < 5 else float(random.normal(100)),
            [float(value) for value in random.normal(size=2)],
            int(random.geometric(0.3)),
            tags[index % len(tags)],
            [f"p{value}" for value in random.geometric(0.4, random.integers(4))],
        )
        for index in range(40)
    ]


def _assert_equal(received: Any, expected: Any) -> None:
    assert received.columns.keys() == expected.columns.keys()
    for name, column in expected.columns.items():
        np.testing.assert_allclose(
            received.columns[name], column, rtol=RELATIVE_ERROR, atol=RELATIVE_ERROR, err_msg=name
        )
    received_root, expected_root = (Path(item.output.transform_savedmodel_dir) for item in (received, expected))
    assert _contents(received_root / "assets") == _contents(expected_root / "assets")
    assert _schema_text(received_root) == _schema_text(expected_root)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix != ".gz"}


def _schema_text(root: Path) -> str:
    return (root.parent / "transformed_metadata" / "schema.pbtxt").read_text()


@pytest.mark.slow
def test_both_engines_find_the_same(
    analyse_in_process: Callable[..., Any], analyse_on_beam: Callable[..., Any]
) -> None:
    rows = _rows()
    _assert_equal(analyse_in_process(_common_analyzers, SPEC, rows), analyse_on_beam(_common_analyzers, SPEC, rows))


def test_analyzers_that_need_what_others_found_take_more_passes(analyse_in_process: Callable[..., Any]) -> None:
    # No comparison: Beam's in-memory runner cannot run more passes than one of TensorFlow Transform 1.16.
    rows = _rows()
    received = analyse_in_process(_analyzers_in_turn, SPEC, rows)
    y = np.array([row["y"] for row in rows])
    squares = ((y - y.mean()) / y.std()) ** 2
    scaled = (squares - squares.min()) / (squares.max() - squares.min())
    np.testing.assert_allclose(received.columns["scaled"], scaled, atol=1e-6)
    np.testing.assert_allclose(received.columns["centred"], scaled - scaled.mean(), atol=1e-6)
    counts = Counter(token for row in rows for token in row["ragged"])
    tokens = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
    assert received.output.vocabulary_by_name("pieces") == [token.encode() for token in tokens]
    ids = [[tokens.index(token) for token in row["ragged"]] + [-1] * (3 - len(row["ragged"])) for row in rows]
    np.testing.assert_array_equal(received.columns["reversed"], len(tokens) - 1 - np.array(ids))


def test_function_without_analyzers_reads_no_example(tmp_path: Path) -> None:
    transform = InProcessTransform(lambda inputs: {"n": inputs["n"] + 1}, SCHEMA, tmp_path)
    findings = transform.analyse([tmp_path / "absent.gz"])
    assert findings.num_read == []
    transform.write(findings, tmp_path / "graph")
    output = tft.TFTransformOutput(str(tmp_path / "graph"))
    assert output.transform_raw_features({"n": tf.constant([[1]], tf.int64)})["n"].numpy().tolist() == [[2]]


UNKNOWN = {
    "ordering by information on a label": lambda inputs: tft.vocabulary(
        inputs["n"], labels=tf.ones_like(inputs["n"]), vocab_filename="v"
    ),
    "coverage of every key": lambda inputs: tft.vocabulary(
        inputs["tags"], coverage_top_k=1, key_fn=len, vocab_filename="v"
    ),
    "quantiles by key": lambda inputs: tft.bucketize_per_key(inputs["x"], tf.strings.as_string(inputs["x"]), 2),
    "approximate": lambda inputs: tft.experimental.approximate_vocabulary(inputs["tags"], 2, vocab_filename="v"),
}


@pytest.mark.parametrize("analyse", UNKNOWN.values(), ids=UNKNOWN)
def test_what_only_beam_can_run_is_named(analyse: Callable[..., Any], tmp_path: Path) -> None:
    def function(inputs: dict[str, Any]) -> Outputs:
        analyse(inputs)
        return {"n": inputs["n"]}

    assert InProcessTransform(function, SCHEMA, tmp_path).unknown_nodes


@pytest.mark.slow
def test_graph_comes_without_beam() -> None:
    program = "import sys, transform.in_process; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
