"""Whole runs on input that is wrong: a clear error or verdict, and what serves stays as it is.

All runs share the pipeline of `cycles("local")` and add a span of their own to it.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DataError, PipelineError, ServingError, TrainingError, UserCodeError
from pipeline.decision import read_decision
from schemas.model_layout import KERAS_FILE, TRAINING_FOLDER

pytestmark = pytest.mark.e2e

# No refresh either: a run that fails later should not analyse first.
SHORT_WINDOW = {"cold_spans": 1}
USER_CODE = """
def broken_preprocessing(inputs):
    raise ZeroDivisionError("no distance is that short")


def broken_model(inputs, feature_set, options):
    raise ZeroDivisionError("no layer is that thin")
"""


@pytest.fixture
def fails(untouched):
    """Run a span that must fail at a node (None: while planning), leaving no trace but the record of the failure."""

    def fails(span: int, error: type[PipelineError], message: str, *, node: str | None = "ExampleGen", **changes):
        outputs = untouched.config.artifacts_path.glob
        before = set() if node is None else set(outputs(f"{node}/*/*"))
        with pytest.raises(error, match=message) as caught:
            untouched.run(span, **{"window": SHORT_WINDOW, **changes})
        assert untouched.state(span) in ("arrived", None)
        if node is None:
            assert untouched.nodes == []
            return
        assert str(caught.value).startswith(f"Node {node!r} failed on span {span}. ")
        # What does not need the node may have started beside it; what does must not.
        assert node in untouched.nodes
        assert {"Gate", "Pusher"}.isdisjoint(untouched.nodes)
        assert set(outputs(f"{node}/*/*")) == before
        run = untouched.ledger.runs()[-1]
        decision = read_decision(Path(run.decision_path))
        assert (run.span, run.outcome, decision.outcome) == (span, "failed", "failed")
        assert run.error == decision.error == f"{caught.value.headline}: {caught.value}"

    return fails


def test_span_that_does_not_exist(fails):
    fails(77, DataError, r"Span 77 does not exist\. Expected one that was ingested, such as 4", node=None)


def test_manifest_missing(fails, add_span, untouched):
    add_span(11)
    (untouched.folder(11) / "manifest.json").unlink()
    fails(11, DataError, r"Span 11 version 1 has no manifest\.json", node=None)


def test_truncated_file(fails, add_span, spoil):
    add_span(12)
    spoil(12, lambda content: content[:-10])
    fails(12, DataError, "Span 12 version 1 has a file of the wrong size")


def test_truncated_file_that_its_manifest_describes(fails, add_span, spoil):
    add_span(13)
    spoil(13, lambda content: content[:-10], honest=True)
    fails(13, DataError, "TFRecord file .* is damaged")


def test_flipped_bit(fails, add_span, spoil):
    add_span(14)
    spoil(14, _flip)
    fails(14, DataError, "Span 14 version 1 has a wrong checksum")


def test_wrong_count(fails, add_span, rewrite_manifest):
    add_span(15)
    rewrite_manifest(15, num_examples=3)
    fails(15, DataError, "Span 15 version 1 has a wrong example count. Expected 3 in")


def test_missing_split(fails, add_span, rewrite_manifest):
    add_span(16)
    rewrite_manifest(16, drop="eval")
    fails(16, DataError, r"Span 16 version 1 has splits \['train'\]")


def test_empty_span(fails, add_span, rewrite_manifest):
    add_span(17)
    rewrite_manifest(17, num_examples=0)
    fails(17, DataError, "Span 17 version 1 has no examples in its train split")


def _without(name: str) -> Callable:
    return lambda features, row: features.pop(name)


def _text(name: str, text: str) -> Callable:
    def change(features, row):
        features[name].Clear()
        features[name].bytes_list.value.append(text.encode())

    return change


def _label(features, row):
    features["late"].int64_list.value[:] = [0]


def _number(name: str, value: float) -> Callable:
    def change(features, row):
        if row % 10 == 0:
            features[name].float_list.value[:] = [value]

    return change


# What is wrong with a span, and the finding that each fault alone would block it for. Faults of different columns share
# a span, since a run takes seconds.
FAULTS = {
    21: {
        ("carrier", "SCHEMA_MISSING_COLUMN"): _without("carrier"),
        ("hour", "UNEXPECTED_DATA_TYPE"): _text("hour", "noon"),
        ("late", "label_values"): _without("late"),
        ("wind_gust", "non_finite"): _number("wind_gust", math.nan),
        ("distance", "FLOAT_TYPE_BIG_FLOAT"): _number("distance", 1e30),
        ("origin", "ENUM_TYPE_UNEXPECTED_STRING_VALUES"): _text("origin", "SFO"),
    },
    22: {
        ("late", "label_values"): _label,
        ("wind_gust", "non_finite"): _number("wind_gust", math.inf),
    },
}


# TFDV takes the variance of infinity.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("span", FAULTS, ids=["many faults", "one class and infinity"])
def test_bad_values_block_before_anything_is_trained(untouched, add_span, span):
    def spoil_all(features, row):
        for change in FAULTS[span].values():
            change(features, row)

    add_span(span, spoil_all)
    decision = untouched.run(span)
    assert decision.outcome == "blocked"
    assert untouched.state(span) == "blocked"
    assert "Trainer" not in decision.seconds
    blocking = [finding for finding in decision.drift.findings if finding.verdict == "block"]
    assert FAULTS[span].keys() <= {(finding.feature, finding.measure) for finding in blocking}
    assert decision.reasons[-len(blocking) :] == tuple(finding.sentence for finding in blocking)
    assert decision.push is None
    assert untouched.run(span).reason == f"Span {span} version 1 is already done: blocked."


def test_unknown_carrier_is_no_reason_to_stop_but_the_gate_may_be(untouched, add_span):
    add_span(31, _text("carrier", "ZZ"))
    decision = untouched.run(31, gate={"bounds": [{"metric": "auc", "minimum": 0.999}]})
    assert decision.drift.verdict == "warn"
    new = [finding for finding in decision.drift.findings if finding.measure == "new_values"]
    assert {finding.value for finding in new if finding.feature == "carrier"} == {1.0}
    assert decision.outcome == "rejected"
    assert untouched.state(31) == "rejected"
    assert decision.push is None
    assert decision.reasons[-1].startswith("auc (overall) is ")


def test_drift_beyond_cold_start_is_answered_with_a_cold_run(untouched, add_span):
    add_span(32, _text("carrier", "ZZ"))
    num_runs = len(untouched.ledger.runs())
    decision = untouched.run(
        32,
        window=SHORT_WINDOW,
        drift={"features": {"carrier": {"distance": {"cold_start": 0.5}}}},
        gate={"bounds": [{"metric": "auc", "minimum": 0.999}]},
    )
    runs = untouched.ledger.runs()[num_runs:]
    assert [(run.trigger, run.outcome) for run in runs] == [("manual", "cold_start"), ("drift", "rejected")]
    assert decision.plan.initialisation == "cold"
    assert "L-infinity distance of 'carrier'" in decision.plan.why[0]
    assert decision.gate.champion["auc"] > 0
    assert untouched.state(32) == "rejected"


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    (tmp_path / "user_code_of_a_test.py").write_text(USER_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return "user_code_of_a_test"


def test_preprocessing_fn_that_raises(fails, add_span, user_code):
    add_span(41)
    function = f"{user_code}:broken_preprocessing"
    message = f"preprocessing_fn '{function}' raised ZeroDivisionError: no distance is that short"
    fails(41, UserCodeError, message, node="Transform", preprocessing_fn=function)


def test_model_function_that_raises(fails, untouched, add_span, user_code):
    add_span(42)
    function = f"{user_code}:broken_model"
    training = {**untouched.config.training.model_dump(), "model": {"kind": "custom", "function": function}}
    message = f"Model function '{function}' raised ZeroDivisionError: no layer is that thin"
    fails(42, UserCodeError, message, node="Trainer", training=training)


def test_loss_that_is_not_finite(fails, untouched, add_span):
    add_span(43)
    training = {**untouched.config.training.model_dump(), "learning_rate": 1e30, "clipnorm": None}
    fails(43, TrainingError, "The loss became (nan|inf)", node="Trainer", training=training)


def test_serving_folder_that_cannot_be_written(fails, add_span, tmp_path):
    add_span(44)
    (tmp_path / "serving").write_text("a file, where a folder is expected")
    fails(44, ServingError, "could not be restored in", node=None, serving_folder=str(tmp_path / "serving"))


def test_corrupted_base_model(fails, untouched, add_span):
    add_span(45)
    path = Path(untouched.ledger.champion().model_uri) / TRAINING_FOLDER / KERAS_FILE
    intact = path.read_bytes()
    path.write_bytes(_flip(intact))
    try:
        fails(45, TrainingError, "The base model in .* is corrupted or was exchanged", node="Trainer")
    finally:
        path.write_bytes(intact)


def _flip(content: bytes) -> bytes:
    """Return the bytes with one bit in the middle flipped."""
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    return bytes(flipped)
