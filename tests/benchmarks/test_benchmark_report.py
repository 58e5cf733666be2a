"""Each benchmark writes its own section of one document, and leaves the others alone."""

from pathlib import Path

import pytest

from benchmarks.report import RESULTS, write_section


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    RESULTS.parent.mkdir()
    RESULTS.write_text("# Benchmarks\n\nHow to run.\n\n## One\n\nfirst 1\n\n## Two\n\nsecond\n")
    return tmp_path / RESULTS


def test_a_section_is_replaced_where_it_stands(document: Path) -> None:
    write_section("One", ["first 2", r"and a \1 backslash"])
    expected = "# Benchmarks\n\nHow to run.\n\n## One\n\nfirst 2\nand a \\1 backslash\n\n## Two\n\nsecond\n"
    assert document.read_text() == expected
    write_section("One", ["first 2", r"and a \1 backslash"])
    assert document.read_text() == expected


def test_the_last_section_is_replaced_too(document: Path) -> None:
    write_section("Two", ["changed"])
    assert document.read_text() == "# Benchmarks\n\nHow to run.\n\n## One\n\nfirst 1\n\n## Two\n\nchanged\n"


def test_a_new_section_comes_last(document: Path) -> None:
    write_section("Three", ["third"])
    assert document.read_text().endswith("## Two\n\nsecond\n\n## Three\n\nthird\n")
