"""Laws of the analysis in process: it finds what plain Python finds, however the examples lie in files."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_transform.tf_metadata import schema_utils

from transform.in_process import InProcessTransform

TOP, THRESHOLD = 3, 2
RELATIVE_ERROR = 1e-5  # of float32 sums in whatever order
SPEC = {"x": tf.io.VarLenFeature(tf.float32), "tags": tf.io.VarLenFeature(tf.string)}
# What TensorFlow Transform writes in place of no token at all.
NO_TOKEN = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"
Example = tuple[list[float], list[bytes]]
Analysed = tuple[list[float], dict[str, bytes]]  # constants, and vocabulary files by name
NUMBERS = st.lists(st.floats(-1e3, 1e3, width=32) | st.just(math.nan), max_size=2)
TOKENS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"", b"a b", b"\xff", b"e\nf", b"g\r"]), max_size=3)
EXAMPLES = st.lists(st.tuples(NUMBERS, TOKENS), min_size=1, max_size=12)


def _function(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
    values = inputs["x"].values
    known = tf.boolean_mask(values, ~tf.math.is_nan(values))
    tft.vocabulary(inputs["tags"], vocab_filename="all")
    tft.vocabulary(inputs["tags"], vocab_filename="some", top_k=TOP, frequency_threshold=THRESHOLD)
    found = [tft.mean(known), tft.var(known), tft.min(known), tft.max(known), tft.sum(known)]
    found.append(tf.squeeze(tft.quantiles(known, 2, epsilon=0.01)))
    return {"constants": tf.tile(tf.stack(found)[tf.newaxis, :], (inputs["x"].dense_shape[0], 1))}


@pytest.fixture(scope="module")
def analyse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Analysed]:
    """Analyse examples, each argument in a file of its own; the function is traced once for all."""
    folder = tmp_path_factory.mktemp("analysis")
    transform = InProcessTransform(_function, schema_utils.schema_from_feature_spec(SPEC), folder)

    def run(*files_of_examples: list[Example]) -> Analysed:
        files = [_written(examples, folder / f"{number}.gz") for number, examples in enumerate(files_of_examples)]
        findings = transform.analyse(files)
        assert findings.num_read == [sum(map(len, files_of_examples))]
        found = {name.split("/")[0]: value.numpy() for name, value in findings.values.items() if "_1/" not in name}
        second = {name.split("/")[0]: value.numpy() for name, value in findings.values.items() if "output_1/" in name}
        # TensorFlow Transform finds the least as the most of the negated.
        constants = [
            found["mean"],
            second["var"],
            -found["min"],
            second["max"],
            found["sum"],
            found["quantiles"].item(),
        ]
        return constants, {name: (folder / name).read_bytes() for name in ("all", "some")}

    return run


def _written(examples: list[Example], file: Path) -> Path:
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        for numbers, tokens in examples:
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.extend(numbers)
            example.features.feature["tags"].bytes_list.value.extend(tokens)
            writer.write(example.SerializeToString())
    return file


@settings(deadline=None, max_examples=20)
@given(examples=EXAMPLES)
def test_plain_python_finds_the_same(analyse: Callable[..., Analysed], examples: list[Example]) -> None:
    (mean, variance, least, most, total, median), vocabularies = analyse(examples)
    values = [value for numbers, _ in examples for value in numbers if not math.isnan(value)]
    if values:
        expected = [np.mean(values), np.var(values), min(values), max(values), sum(values)]
        # A sum that cancels is as exact as its terms.
        scale = max(map(abs, values), default=1)
        received = [mean, variance, least, most, total]
        np.testing.assert_allclose(received, expected, rtol=RELATIVE_ERROR, atol=RELATIVE_ERROR * max(scale, scale**2))
        assert median in values
    counts = Counter(t for _, tokens in examples for t in tokens if t and b"\n" not in t and b"\r" not in t)
    ranked = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
    frequent = [token for token in ranked if counts[token] >= THRESHOLD][:TOP]
    assert vocabularies["all"] == b"".join(token + b"\n" for token in ranked or [NO_TOKEN])
    assert vocabularies["some"] == b"".join(token + b"\n" for token in frequent or [NO_TOKEN])


@settings(deadline=None, max_examples=10)
@given(examples=EXAMPLES, cut=st.integers(0, 12))
def test_it_does_not_matter_how_examples_lie_in_files(
    analyse: Callable[..., Analysed], examples: list[Example], cut: int
) -> None:
    constants, vocabularies = analyse(examples)
    other_constants, other_vocabularies = analyse(examples[cut:], examples[:cut])
    assert other_vocabularies == vocabularies
    np.testing.assert_allclose(other_constants, constants, rtol=RELATIVE_ERROR, atol=RELATIVE_ERROR * 1e6)
