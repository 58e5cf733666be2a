"""Files that lie elsewhere are found, fetched and adopted as local ones are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, DataError
from ingest.file_systems import LocalFiles, RemoteFiles, local_copies
from ingest.inbox import Inbox
from ingest.manifests import list_spans, read_manifest
from ingest.patterns import literal_folder, present_files
from schemas.ingestion import SplitPatterns, TfRecordOptions
from schemas.spans import SPLITS

# TensorFlow's file system in memory stands for any other that it reads.
PATTERNS = {split: f"ram://bucket/{{SPAN}}/{split}-*.tfrecord" for split in SPLITS}


@pytest.fixture
def write_remote() -> Callable[..., str]:
    """Write a file of one record into TensorFlow's memory."""

    def write(name: str, record: bytes) -> str:
        import tensorflow as tf

        url = f"ram://bucket/{name}"
        with tf.io.TFRecordWriter(url) as writer:
            writer.write(record)
        return url

    return write


def test_remote_spans_are_adopted_once(
    tmp_path: Path, write_remote: Callable[..., str], read_examples: Callable[..., Any]
) -> None:
    for split in SPLITS:
        write_remote(f"3/{split}-a.tfrecord", f"{split}".encode())
    inbox = Inbox(TfRecordOptions(kind="tfrecord", patterns=SplitPatterns(**PATTERNS)), tmp_path)
    for _ in range(2):
        assert inbox.adopt_new().waiting == {}
        assert [(ref.span, ref.version) for ref in list_spans(tmp_path).refs] == [(3, 1)]
    manifest = read_manifest(tmp_path, 3, 1)
    assert manifest.source == {"kind": "tfrecord", "train": "ram://bucket/3", "eval": "ram://bucket/3"}
    assert list(read_examples(manifest.ref.folder(tmp_path), manifest, SPLITS)) == [b"train", b"eval"]


def test_copies_of_the_same_name_are_kept_apart_and_removed(write_remote: Callable[..., str]) -> None:
    names = tuple(write_remote(f"copies/{folder}/same", folder.encode()) for folder in ("a", "b"))
    with local_copies({"train": names}) as files:
        contents = [path.read_bytes() for path in files["train"]]
    assert contents[0] != contents[1]
    assert not any(path.exists() for path in files["train"])


def test_an_unknown_scheme_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TensorFlow reads no such file system: 'nowhere://\*/t'.*e\.g\. gs://"):
        present_files({"train": "nowhere://{SPAN}/t"}, tmp_path)


@pytest.mark.parametrize("files", [LocalFiles(), RemoteFiles()], ids=["local", "remote"])
def test_a_file_that_went_away_says_so(files: LocalFiles | RemoteFiles, tmp_path: Path) -> None:
    name = str(tmp_path / "gone") if isinstance(files, LocalFiles) else "ram://bucket/gone"
    with pytest.raises(DataError, match=r"gone' went away while it was looked at"):
        files.stamp(name)


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("a/b/{SPAN}/t", "a/b"), ("a/b-{SPAN}/t", "a"), ("{SPAN}", "."), ("gs://b/{SPAN}", None)],
)
def test_the_folder_to_watch_is_the_literal_one(tmp_path: Path, pattern: str, folder: str | None) -> None:
    expected = None if folder is None else (tmp_path / folder).resolve()
    assert literal_folder(pattern, tmp_path) == expected
