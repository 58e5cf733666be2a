import threading
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.files import (
    discard_folder,
    folder_written_atomically,
    link_or_copy,
    path_inside,
    sweep_temporaries,
    write_text_atomically,
)


def test_text_replaces_the_whole_file(tmp_path: Path):
    path = tmp_path / "deep" / "a.json"
    write_text_atomically(path, "first, and longer")
    write_text_atomically(path, "second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_text_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "a.json"
    write_text_atomically(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "\ud800")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_appears_whole(tmp_path: Path):
    target = tmp_path / "span"
    with folder_written_atomically(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert [file.name for file in target.iterdir()] == ["a"]


def test_folder_of_a_failure_never_appears(tmp_path: Path):
    def fail_midway() -> None:
        with folder_written_atomically(tmp_path / "span") as folder:
            (folder / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert list(tmp_path.iterdir()) == []


def test_folder_is_never_overwritten(tmp_path: Path):
    (tmp_path / "span").mkdir()
    (tmp_path / "span" / "old").write_text("1")
    with pytest.raises(FileExistsError, match="never overwritten"), folder_written_atomically(tmp_path / "span"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["span"]
    assert (tmp_path / "span" / "old").exists()


def test_link_shares_the_file(tmp_path: Path):
    source = tmp_path / "a"
    source.write_text("1")
    link_or_copy(source, tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").samefile(source)


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "a/../../x", "link/x"])
def test_path_cannot_leave_its_root(tmp_path: Path, relative: str):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="leaves its root"):
        path_inside(root, relative)


def test_path_inside_is_joined(tmp_path: Path):
    assert path_inside(tmp_path, "a/./b") == (tmp_path / "a" / "b").resolve()


def test_folder_takes_the_place_of_another(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("1")
    with folder_written_atomically(tmp_path / "a", replace=True) as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_discarded_folder_is_gone(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    discard_folder(tmp_path / "a")
    discard_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_writes_is_swept(tmp_path: Path):
    (tmp_path / ".tmp-file").write_text("1")
    (tmp_path / ".tmp-folder" / "deep").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    with folder_written_atomically(tmp_path / "span") as living:
        sweep_temporaries(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"kept", living.name}


def test_writers_and_sweepers_at_once_do_not_disturb_one_another(tmp_path: Path):
    """A temporary that is a moment old looks like one that was left, unless making and claiming it is one step."""
    stop, problems = threading.Event(), list[BaseException]()

    def sweep() -> None:
        while not stop.is_set():
            sweep_temporaries(tmp_path)

    def write(name: str) -> None:
        try:
            for number in range(50):
                write_text_atomically(tmp_path / f"{name}.txt", str(number))
                with folder_written_atomically(tmp_path / name, replace=True) as folder:
                    (folder / "number").write_text(str(number))
        except OSError as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    sweeper = threading.Thread(target=sweep)
    for thread in (sweeper, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    sweeper.join()
    assert problems == []
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.txt", "b", "b.txt"}


def test_a_file_is_written_atomically_inside_a_folder_that_is(tmp_path: Path) -> None:
    with folder_written_atomically(tmp_path / "model") as folder:
        write_text_atomically(folder / "record.json", "{}")
    assert (tmp_path / "model" / "record.json").read_text() == "{}"
