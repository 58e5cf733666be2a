from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.example_gen import ExampleGen
from components.replay_gen import ReplayGen
from ingest.replay_buffer import read_replay
from schemas.artifacts import ReplayBuffer
from schemas.features import LabelSpec
from schemas.provenance import REPLAY_PREVIOUS, REPLAY_SPANS_JOINED, REPLAY_SPANS_LEFT, decode_spans, encode_spans
from schemas.replay import MEMBERSHIP_FILE, Membership, ReplayOptions

LABEL = LabelSpec(name="name", task="multiclass").model_dump_json()
OPTIONS = ReplayOptions(train_examples=4, eval_examples=2, balance="time").model_dump_json()


@pytest.fixture
def make_examples(make_artifact, spans_root):
    def make(name, *manifests):
        examples = make_artifact(standard_artifacts.Examples, name)
        spans = encode_spans(manifest.ref for manifest in manifests)
        ExampleGen.test_call(examples=examples, spans_root=str(spans_root), spans=spans)
        return examples

    return make


@pytest.fixture
def run(make_artifact):
    def run(name, examples, previous=None):
        buffer = make_artifact(ReplayBuffer, name)
        given = {"previous": previous} if previous else {}
        ReplayGen.test_call(examples=examples, buffer=buffer, options=OPTIONS, label=LABEL, seed=0, **given)
        return buffer

    return run


def _membership(buffer):
    return Membership.model_validate_json((Path(buffer.uri) / MEMBERSHIP_FILE).read_text())


def _changes(buffer):
    return tuple(
        [(ref.span, ref.version) for ref in decode_spans(buffer.get_string_custom_property(name))]
        for name in (REPLAY_SPANS_JOINED, REPLAY_SPANS_LEFT)
    )


def test_first_buffer_is_filled_from_all_spans_of_a_window(make_span, make_examples, run):
    manifests = [make_span(span) for span in (6, 7)]
    buffer = run("buffer", make_examples("window", *manifests))
    membership = _membership(buffer)
    assert membership.members == {"train": {"6-1": 2, "7-1": 2}, "eval": {"6-1": 1, "7-1": 1}}
    assert membership.num_seen == {"train": 12, "eval": 6}
    assert _changes(buffer) == ([(6, 1), (7, 1)], [])


def test_buffer_grows_from_the_previous_one_and_a_repeated_span_changes_nothing(make_span, make_examples, run):
    examples = {span: make_examples(f"examples-{span}", make_span(span)) for span in (6, 7)}
    first = run("first", examples[6])
    second = run("second", examples[7], previous=first)
    again = run("again", examples[6], previous=second)
    assert _membership(second).members["train"] == {"6-1": 2, "7-1": 2}
    assert _membership(again) == _membership(second)
    assert [_changes(buffer) for buffer in (second, again)] == [([(7, 1)], []), ([], [])]
    assert not first.has_custom_property(REPLAY_PREVIOUS)
    assert second.get_string_custom_property(REPLAY_PREVIOUS) == first.uri
    assert read_replay(Path(again.uri), "eval")[0] == read_replay(Path(second.uri), "eval")[0]


def test_corrected_span_replaces_its_earlier_version(make_span, make_examples, run):
    first = run("first", make_examples("earlier", make_span(6)))
    corrected = run("second", make_examples("corrected", make_span(6, version=2)), previous=first)
    assert _membership(corrected).members == {"train": {"6-2": 4}, "eval": {"6-2": 2}}
    assert _changes(corrected) == ([(6, 2)], [(6, 1)])
    assert all(b"6-2-train" in record for record in read_replay(Path(corrected.uri), "train")[0])
