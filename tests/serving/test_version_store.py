"""What a reader of the serving folder can see, at any moment and after any failure."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ServingError, UnavailableError
from serving.version_store import expose, hidden_versions, locate, reconcile, remove, restore, stage, versions

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"i",
    "variables/variables.data-00000": b"w" * 100_000,
}

Push = Callable[..., None]


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "trained" / "Format-Serving"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "flights"


@pytest.fixture
def push(model: Path, base: Path) -> Push:
    """Stage and expose versions, in order."""

    def push(*numbers: int) -> None:
        for version in numbers:
            stage(model, base, version)
            expose(base, version)

    return push


def test_staged_versions_are_whole_copies_that_no_server_sees(model: Path, base: Path) -> None:
    assert (versions(base), hidden_versions(base)) == ([], [])
    for version in (2, 10, 9):
        assert stage(model, base, version) == base / str(version)
    assert (versions(base), hidden_versions(base)) == ([], [2, 9, 10])
    assert content(base / ".hidden-10") == FILES
    assert not any(file.is_symlink() for file in base.rglob("*"))


def test_nothing_but_versions_counts_as_one(push: Push, base: Path) -> None:
    push(1)
    for name in ("notes", ".tmp-7", ".hidden-x"):
        (base / name).mkdir()
    (base / "3").write_text("a file")
    (base / ".hidden-4").write_text("a file")
    assert (versions(base), hidden_versions(base)) == ([1], [])


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_is_not_positive_is_refused(model: Path, base: Path, version: int) -> None:
    with pytest.raises(ServingError, match=f"Expected a positive number; received version={version}"):
        stage(model, base, version)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match=r"received a folder without saved_model\.pb"):
        stage(tmp_path / "empty", base, 1)


def test_staging_again_takes_the_place_of_the_leftover(model: Path, base: Path) -> None:
    stage(model, base, 1)
    (base / ".hidden-1" / "variables" / "stale").write_bytes(b"")
    stage(model, base, 1)
    assert content(base / ".hidden-1") == FILES
    assert os.listdir(base) == [".hidden-1"]


def test_staging_again_what_serves_changes_nothing(model: Path, push: Push, base: Path) -> None:
    push(1)
    assert stage(model, base, 1) == base / "1"
    assert os.listdir(base) == ["1"]


def test_a_visible_version_never_changes(model: Path, push: Push, base: Path) -> None:
    push(1)
    (model / "saved_model.pb").write_bytes(b"another graph")
    with pytest.raises(ServingError, match=r"Version 1 is in .* already.*not among \[1\]"):
        stage(model, base, 1)
    assert content(base / "1") == FILES


def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(model: Path, base: Path) -> None:
    code = "import os, sys; from core.files import *; f = folder_written_atomically(Path(sys.argv[1])); f.__enter__()"
    subprocess.run([sys.executable, "-c", f"{code}; os._exit(9)", str(base / ".hidden-1")], check=False)
    assert [name[:5] for name in os.listdir(base)] == [".tmp-"]
    living = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(flush=True); input()", str(base / ".hidden-1")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with living:
        assert living.stdout is not None
        living.stdout.readline()
        stage(model, base, 2)
        assert sorted(name[:5] for name in os.listdir(base)) == [".hidd", ".tmp-"]
        living.kill()
    stage(model, base, 2)
    assert os.listdir(base) == [".hidden-2"]


def test_promoting_makes_a_version_the_highest(push: Push, base: Path) -> None:
    push(1, 2, 3)
    assert (versions(base), hidden_versions(base)) == ([1, 2, 3], [])
    expose(base, 1)
    assert (versions(base), hidden_versions(base)) == ([1], [2, 3])
    expose(base, 2)
    assert (versions(base), hidden_versions(base)) == ([1, 2], [3])
    expose(base, 2)
    assert (versions(base), hidden_versions(base)) == ([1, 2], [3])


def test_no_step_of_exposing_shows_a_version_in_between(
    push: Push, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(1, 2, 3, 4)
    highest, rename = [], os.rename

    def watched(source: Path, target: Path) -> None:
        rename(source, target)
        highest.append(versions(base)[-1])

    monkeypatch.setattr(os, "rename", watched)
    expose(base, 1)
    assert highest == [4, 4, 1]
    expose(base, 4)
    assert highest == [4, 4, 1, 4]


def test_a_killed_rollback_leaves_the_old_champion_and_is_finished_later(
    push: Push, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(1, 2, 3)
    with monkeypatch.context() as killed:
        killed.setattr(os, "rename", _dies_after(1))
        with pytest.raises(KeyboardInterrupt):
            expose(base, 1)
    assert versions(base)[-1] == 3
    expose(base, 1)
    assert (versions(base), hidden_versions(base)) == ([1], [2, 3])


def _dies_after(num_renames: int) -> Callable[[Path, Path], None]:
    rename, done = os.rename, list[Path]()

    def rename_or_die(source: Path, target: Path) -> None:
        if len(done) == num_renames:
            raise KeyboardInterrupt
        done.append(target)
        rename(source, target)

    return rename_or_die


@pytest.mark.parametrize("is_staged", [False, True], ids=["unknown", "without-graph"])
def test_what_is_not_whole_is_never_exposed(model: Path, push: Push, base: Path, is_staged: bool) -> None:
    push(1)
    if is_staged:
        stage(model, base, 2)
        (base / ".hidden-2" / "saved_model.pb").unlink()
    with pytest.raises(
        ServingError, match=r"Version 2 is not whole.*visible versions \[1\].*perennial model promote 2"
    ):
        expose(base, 2)
    assert versions(base) == [1]


def test_reconciling_hides_what_is_above_the_champion_and_restores_nothing(model: Path, push: Push, base: Path) -> None:
    push(1, 2, 3)
    inode = (base / "2" / "saved_model.pb").stat().st_ino
    assert not reconcile(base, 2, model)
    assert (versions(base), hidden_versions(base)) == ([1, 2], [3])
    assert (base / "2" / "saved_model.pb").stat().st_ino == inode


@pytest.mark.parametrize(
    "vanished", ["", "2", "2/saved_model.pb", "2/variables"], ids=["all", "own", "graph", "weights"]
)
@pytest.mark.parametrize("is_hidden", [False, True], ids=["visible", "hidden"])
def test_a_champion_that_vanished_comes_back_whole(
    model: Path, push: Push, base: Path, vanished: str, is_hidden: bool
) -> None:
    push(1, 2)
    if is_hidden:
        expose(base, 1)
        vanished = vanished.replace("2", ".hidden-2")
    gone = base / vanished
    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    assert reconcile(base, 2, model)
    assert versions(base)[-1] == 2
    assert content(base / "2") == FILES
    assert not reconcile(base, 2, model)
    assert not list(base.parent.rglob(".tmp-*"))


def test_restoring_changes_nothing_of_what_servers_see(model: Path, push: Push, base: Path) -> None:
    push(1)
    assert restore(base, 2, model)
    assert not restore(base, 2, model)
    assert (versions(base), hidden_versions(base)) == ([1], [2])


def test_a_truncated_file_of_the_champion_is_replaced(model: Path, push: Push, base: Path) -> None:
    push(1)
    os.truncate(base / "1" / "variables" / "variables.data-00000", 10)
    (base / "1" / "assets.extra").mkdir()  # requests for warming up, which an operator may add
    assert reconcile(base, 1, model)
    assert content(base / "1") == FILES
    assert (base / "1" / "assets.extra").is_dir()


def test_a_missing_base_path_appears_with_the_champion_in_it(
    model: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, replace = [], os.replace

    def watched(source: Path, target: Path) -> None:
        replace(source, target)
        seen.append(versions(base))

    monkeypatch.setattr(os, "replace", watched)
    assert reconcile(base, 5, model)
    assert seen == [[5]]


def test_a_champion_without_its_artifact_serves_on(model: Path, push: Push, base: Path, tmp_path: Path) -> None:
    push(1)
    assert not reconcile(base, 1, tmp_path / "collected")
    (base / "1" / "saved_model.pb").unlink()
    with pytest.raises(ServingError, match="Version 1 is not whole"):
        reconcile(base, 1, tmp_path / "collected")
    shutil.rmtree(base / "1")
    with pytest.raises(ServingError, match=r"received a folder without saved_model\.pb"):
        reconcile(base, 1, tmp_path / "collected")


def test_versions_are_removed_but_the_one_that_serves(push: Push, base: Path) -> None:
    remove(base, 1)
    push(1, 2, 3)
    expose(base, 2)
    remove(base, 1)
    remove(base, 3)
    remove(base, 7)
    assert os.listdir(base) == ["2"]
    with pytest.raises(ServingError, match=r"Version 2 serves, so it is not removed.*of \[2\]"):
        remove(base, 2)


def test_a_version_is_found_wherever_it_lies(push: Push, base: Path) -> None:
    push(1, 2)
    expose(base, 1)
    assert [locate(base, version) for version in (1, 2, 3)] == [base / "1", base / ".hidden-2", None]


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    # A file where the folder should be fails for every user, root included.
    (tmp_path / "m").write_text("in the way")
    with pytest.raises(ServingError, match=r"could not be written .* Expected a folder that this user may write"):
        stage(model, tmp_path / "m", 1)
    assert (tmp_path / "m").read_text() == "in the way"


def test_a_copy_that_fails_in_the_middle_leaves_nothing_behind(model: Path, base: Path, tmp_path: Path) -> None:
    (model / "variables" / "variables.data-00001").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ServingError, match="could not be written"):
        stage(model, base, 1)
    assert os.listdir(base) == []


def test_a_full_disk_is_worth_another_try(model: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    monkeypatch.setattr(shutil, "copytree", lambda *_, **__: full("", ""))
    with pytest.raises(UnavailableError, match=r"Version 1 could not be written.*No space left.*free some room"):
        stage(model, base, 1)
    assert os.listdir(base) == []


def test_a_base_path_that_went_away_is_worth_another_try(base: Path) -> None:
    with pytest.raises(UnavailableError, match=r"Version 1 could not be made visible.*bring the folder back"):
        expose(base, 1)


def test_a_server_always_finds_a_whole_highest_version(model: Path, base: Path) -> None:
    """200 random operations under a reader that looks as TensorFlow Serving does: list, take the highest, load it."""
    stop, problems, loaded = threading.Event(), list[str](), set[int]()

    def poll() -> None:
        while not stop.is_set():
            found = versions(base)
            if not found:
                problems.append("no version at all")
                continue
            try:
                is_whole = content(base / str(found[-1])) == FILES
            except FileNotFoundError:
                is_whole = False
            # A version may be hidden between listing and loading; a server lists again, and must see another.
            if is_whole:
                loaded.add(found[-1])
            elif versions(base)[-1:] == found[-1:] and content(base / str(found[-1])) != FILES:
                problems.append(f"version {found[-1]} is not whole")

    chance = random.Random(4)
    stage(model, base, 1)
    expose(base, 1)
    reader = threading.Thread(target=poll)
    reader.start()
    newest = 1
    for _ in range(200):
        if chance.random() < 0.3:
            newest += 1
            stage(model, base, newest)
        else:
            expose(base, chance.randint(max(1, newest - 3), newest))
    stop.set()
    reader.join()
    assert problems == []
    assert len(loaded) > 1


def test_the_store_imports_no_tensorflow() -> None:
    code = "import sys, serving.version_store; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
