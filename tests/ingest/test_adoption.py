"""Folders of TFRecord files become spans as they are."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import DataError
from ingest.ingestion import ingest
from ingest.manifests import list_spans, read_manifest, verify_span
from schemas.ingestion import IngestOptions


@pytest.fixture
def write_split(tmp_path: Path) -> Callable[..., Path]:
    """Write one split of a folder of spans, plain or gzipped by the name's suffix."""

    def write(name: str, records: list[bytes]) -> Path:
        import tensorflow as tf

        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP" if name.endswith(".gz") else "") as writer:
            for record in records:
                writer.write(record)
        return path

    return write


def _options(pattern: str) -> IngestOptions:
    patterns = {split: pattern.replace("SPLIT", split) for split in ("train", "eval")}
    return IngestOptions.model_validate({"source": {"kind": "tfrecord", "patterns": patterns}})


@pytest.mark.parametrize("suffix", [".tfrecord", ".tfrecord.gz"])
def test_examples_are_adopted_in_order(
    tmp_path: Path, schema: Any, write_split: Any, read_examples: Any, suffix: str
) -> None:
    for split, number in (("train", 3), ("eval", 2)):
        for shard in range(2):
            write_split(f"5/{split}/{shard}{suffix}", [f"{split}-{shard}-{n}".encode() for n in range(number)])
    options = _options("source/{SPAN}/SPLIT/*")
    report = ingest(options, tmp_path / "spans", schema=schema, base=tmp_path)
    manifest = read_manifest(tmp_path / "spans", 5, 1)
    folder = manifest.ref.folder(tmp_path / "spans")
    verify_span(folder, manifest)
    expected = [f"train-{shard}-{n}".encode() for shard in range(2) for n in range(3)]
    assert list(read_examples(folder, manifest, ("train",))) == expected
    assert report.num_examples == {"train": 6, "eval": 4}
    again = ingest(options, tmp_path / "spans", schema=schema, base=tmp_path)
    assert (again.written, again.unchanged) == ((), report.written)


def test_plain_files_are_compressed_to_the_same_bytes_each_time(tmp_path: Path, schema: Any, write_split: Any) -> None:
    for split in ("train", "eval"):
        path = write_split(f"5/{split}.tfrecord", [b"one"])
    for name in ("a", "b"):
        ingest(_options("source/{SPAN}/SPLIT.tfrecord"), tmp_path / name, schema=schema, base=tmp_path)
    manifests = [read_manifest(tmp_path / name, 5, 1) for name in ("a", "b")]
    assert manifests[0] == manifests[1]
    adopted = manifests[0].ref.folder(tmp_path / "a") / manifests[0].files["eval"][0].path
    assert gzip.decompress(adopted.read_bytes()) == path.read_bytes()


def test_a_changed_file_makes_the_next_version(tmp_path: Path, schema: Any, write_split: Any) -> None:
    options = _options("source/{SPAN}/SPLIT.tfrecord")
    for records in ([b"one"], [b"other"]):
        for split in ("train", "eval"):
            write_split(f"5/{split}.tfrecord", records)
        ingest(options, tmp_path / "spans", schema=schema, base=tmp_path)
    assert [(ref.span, ref.version) for ref in list_spans(tmp_path / "spans").refs] == [(5, 1), (5, 2)]


def test_versions_in_names_are_kept_and_never_overwritten(tmp_path: Path, schema: Any, write_split: Any) -> None:
    options = _options("source/{SPAN}-{VERSION}-SPLIT.tfrecord")
    for version in (1, 3):
        for split in ("train", "eval"):
            write_split(f"5-{version}-{split}.tfrecord", [str(version).encode()])
    ingest(options, tmp_path / "spans", schema=schema, base=tmp_path)
    before = list_spans(tmp_path / "spans").refs
    assert [(ref.span, ref.version) for ref in before] == [(5, 1), (5, 3)]
    write_split("5-3-train.tfrecord", [b"changed"])
    with pytest.raises(DataError, match=r"is there already with other content.*Give a correction its own version"):
        ingest(options, tmp_path / "spans", schema=schema, base=tmp_path)
    assert list_spans(tmp_path / "spans").refs == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no record at all", "is damaged"), (b"", "has no examples in its train split")],
    ids=["damaged", "empty"],
)
def test_what_cannot_be_adopted_leaves_nothing_behind(
    tmp_path: Path, schema: Any, write_split: Any, content: bytes, message: str
) -> None:
    write_split("5-eval.tfrecord", [b"one"])
    write_split("5-train.tfrecord", []).write_bytes(content)
    with pytest.raises(DataError, match=message):
        ingest(_options("source/{SPAN}-SPLIT.tfrecord"), tmp_path / "spans", schema=schema, base=tmp_path)
    assert [path for path in (tmp_path / "spans").rglob("*") if path.is_file()] == []
