from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.example_gen import ExampleGen
from core.errors import DataError
from schemas.provenance import EXAMPLES_SPANS, decode_spans, encode_spans
from schemas.spans import SPLITS


@pytest.fixture
def run(make_artifact, spans_root):
    def run(*manifests, spans=None):
        examples = make_artifact(standard_artifacts.Examples, f"examples-{len(manifests)}")
        text = spans or encode_spans(manifest.ref for manifest in manifests)
        ExampleGen.test_call(examples=examples, spans_root=str(spans_root), spans=text)
        return examples

    return run


def _names(examples, split):
    files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([examples], split)}/*")
    records = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP").as_numpy_iterator()
    return [tf.train.Example.FromString(r).features.feature["name"].bytes_list.value[0].decode() for r in records]


def test_artifact_is_what_tfx_expects_of_examples(make_span, run):
    examples = run(make_span(7, version=3))
    assert artifact_utils.decode_split_names(examples.split_names) == list(SPLITS)
    assert (examples.span, examples.version) == (7, 3)
    assert (examples.get_int_custom_property("span"), examples.get_int_custom_property("version")) == (7, 3)
    assert examples_utils.get_payload_format(examples) == example_gen_pb2.FORMAT_TF_EXAMPLE
    assert examples_utils.get_file_format(examples) == "tfrecords_gzip"


def test_records_arrive_unchanged_in_their_split(make_span, run):
    examples = run(make_span(7))
    assert sorted(_names(examples, "train")) == [f"7-1-train-0-{row}" for row in range(4)] + [
        f"7-1-train-1-{row}" for row in range(2)
    ]
    assert sorted(_names(examples, "eval")) == ["7-1-eval-0-0", "7-1-eval-0-1", "7-1-eval-1-0"]


def test_files_are_linked_not_copied(make_span, run, spans_root):
    manifest = make_span(7)
    examples = run(manifest)
    originals = {path.stat().st_ino for path in manifest.ref.folder(spans_root).rglob("*.tfrecord.gz")}
    assert {path.stat().st_ino for path in Path(examples.uri).rglob("*.tfrecord.gz")} == originals


def test_window_is_one_artifact_that_lists_its_spans(make_span, run):
    manifests = [make_span(span) for span in (6, 7, 8)]
    examples = run(*manifests)
    assert (examples.span, examples.version) == (8, 1)
    assert decode_spans(examples.get_string_custom_property(EXAMPLES_SPANS)) == tuple(m.ref for m in manifests)
    assert len(_names(examples, "train")) == 18
    assert {name.split("-")[0] for name in _names(examples, "eval")} == {"6", "7", "8"}


def test_span_that_changed_after_it_was_planned_is_refused(make_span, run):
    planned = make_span(7).ref.model_copy(update={"digest": "0" * 64})
    with pytest.raises(DataError, match=r"Span 7 version 1 changed after it was planned\..*Run again"):
        run(spans=encode_spans([planned]))


def test_damaged_file_is_refused(make_span, run, spans_root):
    manifest = make_span(7)
    path = manifest.ref.folder(spans_root) / manifest.files["eval"][0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="Span 7 version 1 has a wrong checksum"):
        run(manifest)


def test_span_that_is_not_there_is_refused(make_span, run):
    missing = make_span(7).ref.model_copy(update={"span": 9})
    with pytest.raises(DataError, match="Span 9 version 1 does not exist"):
        run(spans=encode_spans([missing]))
