"""Spans that are not what their manifest says are refused, each with its own sentence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from core.digests import digest_of_file
from core.errors import DataError
from ingest.manifests import list_spans, newest_version, read_manifest, verify_span
from schemas.spans import Manifest

TRAIN = "Split-train/examples-00000-of-00001.tfrecord.gz"


def _edit(folder: Path, **changes: Any) -> Manifest:
    """Change fields of a manifest on disk and return what is there now."""
    content = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(content))
    return Manifest.model_validate(content)


def _replace(folder: Path, manifest: Manifest, content: bytes) -> Manifest:
    """Overwrite the train file, and make checksum and size in the manifest those of the new content."""
    path = folder / TRAIN
    path.write_bytes(content)
    files = json.loads(manifest.model_dump_json())["files"]
    files["train"][0] |= {"sha256": digest_of_file(path), "num_bytes": len(content)}
    return _edit(folder, files=files)


def test_an_untouched_span_is_verified(make_span: Any) -> None:
    folder, manifest = make_span()
    verify_span(folder, manifest)
    assert manifest.num_examples == 10


@pytest.mark.parametrize("position", [0, 12, -1], ids=["header", "middle", "end"])
def test_a_flipped_bit_is_found(make_span: Any, position: int) -> None:
    folder, manifest = make_span()
    content = bytearray((folder / TRAIN).read_bytes())
    content[position] ^= 1
    (folder / TRAIN).write_bytes(content)
    with pytest.raises(
        DataError, match=r"Span 1 version 1 has a wrong checksum. Expected sha256=.*Ingest the span again"
    ):
        verify_span(folder, manifest)


def test_a_truncated_file_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    content = (folder / TRAIN).read_bytes()
    (folder / TRAIN).write_bytes(content[:-5])
    with pytest.raises(DataError, match=rf"Expected {len(content)} bytes in .*received {len(content) - 5}"):
        verify_span(folder, manifest)


def test_a_missing_file_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    (folder / TRAIN).unlink()
    with pytest.raises(DataError, match=r"lacks the file 'Split-train/examples-00000"):
        verify_span(folder, manifest)


def test_an_unlisted_file_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    (folder / "Split-train" / "more.tfrecord.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"does not list: \['Split-train/more.tfrecord.gz'\]"):
        verify_span(folder, manifest)


def test_a_missing_split_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    manifest = _edit(folder, files={"train": json.loads(manifest.model_dump_json())["files"]["train"]})
    with pytest.raises(DataError, match=r"has splits \['train'\]. Expected \['eval', 'train'\]"):
        verify_span(folder, manifest)


def test_an_empty_split_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    files = json.loads(manifest.model_dump_json())["files"] | {"train": []}
    with pytest.raises(DataError, match="has no examples in its train split"):
        verify_span(folder, _edit(folder, files=files))


def test_a_wrong_example_count_is_found(make_span: Any) -> None:
    folder, manifest = make_span()
    files = json.loads(manifest.model_dump_json())["files"]
    files["train"][0]["num_examples"] += 1
    with pytest.raises(DataError, match=r"has a wrong example count. Expected \d+ in 'Split-train.*'; received \d+"):
        verify_span(folder, _edit(folder, files=files))


@pytest.mark.parametrize(
    "path", ["../../../outside", "/etc/hostname", "Split-train/link"], ids=["up", "absolute", "link"]
)
def test_a_path_out_of_the_folder_is_refused(make_span: Any, path: str) -> None:
    folder, manifest = make_span()
    (folder / "Split-train" / "link").symlink_to("/etc/hostname")
    files = json.loads(manifest.model_dump_json())["files"]
    files["train"][0]["path"] = path
    with pytest.raises(DataError, match="which lies outside its folder"):
        verify_span(folder, _edit(folder, files=files))


@pytest.mark.parametrize(
    ("plain", "problem"),
    [
        (b"no record at all", "wrong checksum of the length of record 0"),
        (b"\x00" * 5, "end of file inside the header of record 0"),
    ],
    ids=["text", "too short"],
)
def test_what_is_no_tfrecord_is_refused(make_span: Any, plain: bytes, problem: str) -> None:
    folder, manifest = make_span()
    manifest = _replace(folder, manifest, gzip.compress(plain))
    with pytest.raises(DataError, match=problem):
        verify_span(folder, manifest)


def test_what_is_not_gzipped_is_refused(make_span: Any) -> None:
    folder, manifest = make_span()
    manifest = _replace(folder, manifest, b"plain")
    with pytest.raises(DataError, match=r"is damaged. .*Not a gzipped file"):
        verify_span(folder, manifest)


def test_a_span_that_does_not_exist_names_those_that_do(make_span: Any) -> None:
    folder, _ = make_span()
    with pytest.raises(DataError, match=r"Span 7 version 1 does not exist .* of 1 present; the nearest are \['1v1'\]"):
        read_manifest(folder.parents[1], 7, 1)


def test_a_missing_manifest_is_found(make_span: Any) -> None:
    folder, _ = make_span()
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"Span 1 version 1 has no manifest.json"):
        read_manifest(folder.parents[1], 1, 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "unreadable manifest: Invalid JSON"),
        ('{"span": 1, "version": 1}', "unreadable manifest: files: Field required"),
        ('{"span": 1, "version": 1, "files": {}, "fils": 1}', "unreadable manifest: fils: Extra inputs"),
    ],
    ids=["no JSON", "field missing", "unknown field"],
)
def test_an_unreadable_manifest_says_where(make_span: Any, text: str, problem: str) -> None:
    folder, _ = make_span()
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_manifest(folder.parents[1], 1, 1)


def test_another_spans_manifest_is_refused(make_span: Any) -> None:
    folder, _ = make_span()
    _edit(folder, span=3)
    with pytest.raises(DataError, match="has the manifest of span 3 version 1"):
        read_manifest(folder.parents[1], 1, 1)


def test_listing_keeps_broken_and_temporary_folders_apart(make_span: Any) -> None:
    folder, manifest = make_span()
    root = folder.parents[1]
    for name in (".tmp-abc", "span-000002/.tmp-def", "span-000003/version-1", "other/version-1"):
        (root / name).mkdir(parents=True)
    listing = list_spans(root)
    assert listing.refs == (manifest.ref,)
    assert list(listing.unusable) == [root / "span-000003/version-1"]
    assert "has no manifest.json" in listing.unusable[root / "span-000003/version-1"]


def test_listing_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list_spans(tmp_path / "none").refs == ()
    assert newest_version(tmp_path / "none", 1) == 0
