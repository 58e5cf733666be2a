"""What a reader of the serving folder can see, at any moment and after any failure."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.errors import ServingError
from serving.version_store import publish, versions

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"i",
    "variables/variables.data-00000": b"w" * 100_000,
}


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "trained" / "Format-Serving"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_versions_are_copies_in_numeric_order(model: Path, tmp_path: Path) -> None:
    base = tmp_path / "serving" / "flights"
    assert versions(base) == []
    for version in (2, 10, 9):
        assert publish(model, base, version) == base / str(version)
    assert versions(base) == [2, 9, 10]
    assert content(base / "10") == FILES
    assert not any(file.is_symlink() for file in base.rglob("*"))


def test_nothing_but_versions_counts_as_one(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path / "m", 1)
    (tmp_path / "m" / "notes").mkdir()
    (tmp_path / "m" / ".tmp-7").mkdir()
    (tmp_path / "m" / "3").write_text("a file")
    assert versions(tmp_path / "m") == [1]


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_is_not_positive_is_refused(model: Path, tmp_path: Path, version: int) -> None:
    with pytest.raises(ServingError, match=f"Expected a positive number; received version={version}"):
        publish(model, tmp_path / "m", version)


def test_a_pushed_version_never_changes(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path / "m", 1)
    (model / "saved_model.pb").write_bytes(b"another graph")
    with pytest.raises(ServingError, match=r"Version 1 is in .* already.*not among \[1\]"):
        publish(model, tmp_path / "m", 1)
    assert content(tmp_path / "m" / "1") == FILES
    assert [entry.name for entry in (tmp_path / "m").iterdir()] == ["1"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match=r"received a folder without saved_model\.pb"):
        publish(tmp_path / "empty", tmp_path / "m", 1)


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    # A file where the folder should be fails for every user, root included.
    (tmp_path / "m").write_text("in the way")
    with pytest.raises(ServingError, match=r"could not be written .* Expected a folder that this user may write"):
        publish(model, tmp_path / "m", 1)
    assert (tmp_path / "m").read_text() == "in the way"


def test_a_copy_that_fails_in_the_middle_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    (model / "variables" / "variables.data-00001").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ServingError, match="could not be written"):
        publish(model, tmp_path / "m", 1)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_reader_never_sees_half_a_model(model: Path, tmp_path: Path) -> None:
    base, seen, stop = tmp_path / "m", set[int](), threading.Event()
    partial: list[str] = []

    def watch() -> None:
        last_round = False
        while not last_round:
            last_round = stop.is_set()
            for version in versions(base):
                if content(base / str(version)) == FILES:
                    seen.add(version)
                else:
                    partial.append(f"version {version}")

    reader = threading.Thread(target=watch)
    reader.start()
    for version in range(1, 31):
        publish(model, base, version)
    stop.set()
    reader.join()
    assert partial == []
    assert seen == set(range(1, 31))


def test_the_store_imports_no_tensorflow() -> None:
    code = "import sys, serving.version_store; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
