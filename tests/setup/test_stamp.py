from dataclasses import replace

import pytest

from tools.stamp import STAMP_NAME, Stamp, digest_files, read_stamp, write_stamp

WANTED = Stamp(state="ready", root="/project", python="3.11.2 /usr/bin/python3.11", stack="compat", digest="abc")


def test_stamp_comes_back_as_written(tmp_path):
    write_stamp(tmp_path, WANTED)
    assert read_stamp(tmp_path) == WANTED
    assert [path.name for path in tmp_path.iterdir()] == [STAMP_NAME]


@pytest.mark.parametrize("text", ["", "{", '{"state": "ready"}', "[]"], ids=["empty", "cut", "old", "list"])
def test_unreadable_stamp_counts_as_none(tmp_path, text):
    (tmp_path / STAMP_NAME).write_text(text)
    assert read_stamp(tmp_path) is None


def test_missing_environment_has_no_stamp(tmp_path):
    assert read_stamp(tmp_path / ".venv") is None


def test_changed_lock_is_mended_in_place():
    assert replace(WANTED, digest="old").can_mend(WANTED)


@pytest.mark.parametrize(
    "change",
    [{"state": "installing"}, {"root": "/elsewhere"}, {"python": "3.11.7 /opt/python"}, {"stack": "current"}],
    ids=lambda change: next(iter(change)),
)
def test_anything_else_needs_a_fresh_environment(change):
    assert not replace(WANTED, **change).can_mend(WANTED)


def test_digest_sees_content_and_name(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    assert digest_files([one]) != digest_files([two])
    before = digest_files([one])
    one.write_text("b")
    assert digest_files([one]) != before
