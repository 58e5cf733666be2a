"""Patterns: TFX's tokens, and clear words where they are wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from ingest.patterns import resolve_patterns


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Make empty files below the test's folder."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("{SPAN}/SPLIT/*", ["7/SPLIT/a", "7/SPLIT/b", "12/SPLIT/a", "x/SPLIT/a"], {(7, 1): 2, (12, 1): 1}),
        ("span-{SPAN:3}/SPLIT-*.gz", ["span-007/SPLIT-a.gz", "span-7/SPLIT-a.gz"], {(7, 1): 1}),
        ("{SPAN}/v{VERSION}/SPLIT", ["3/v1/SPLIT", "3/v10/SPLIT"], {(3, 1): 1, (3, 10): 1}),
        ("{YYYY}-{MM}-{DD}/SPLIT", ["1970-01-11/SPLIT", "2013-01-01/SPLIT"], {(10, 1): 1, (15706, 1): 1}),
        ("{YYYY}{MM}{DD}_{VERSION:2}_SPLIT?", ["20130101_02_SPLITx"], {(15706, 2): 1}),
        ("[a]+({SPAN})/SPLIT", ["[a]+(5)/SPLIT", "a(6)/SPLIT"], {(5, 1): 1}),
    ],
    ids=["span", "width", "version", "date", "date and version", "odd characters"],
)
def test_files_are_found_by_span_version_and_split(
    touch: Callable[..., Path], pattern: str, names: list[str], expected: dict[tuple[int, int], int]
) -> None:
    splits = ("train", "eval")
    base = touch(*(name.replace("SPLIT", split) for name in names for split in splits))
    found = resolve_patterns({split: pattern.replace("SPLIT", split) for split in splits}, base)
    assert {identity: len(files["train"]) for identity, files in found.items()} == expected
    assert {identity: len(files["eval"]) for identity, files in found.items()} == expected


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_numbers_in_names_come_back(tmp_path_factory: pytest.TempPathFactory, span: int, version: int) -> None:
    base = tmp_path_factory.mktemp("spans")
    (base / f"{span}-{version}").touch()
    assert list(resolve_patterns({"train": "{SPAN}-{VERSION}"}, base)) == [(span, version)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{SPN}/*", r"Pattern '{SPN}/\*' of split 'train' has the unknown token {SPN}.*Did you mean 'SPAN'\?"),
        ("{span}/*", r"Did you mean 'SPAN'\?"),
        ("{SPAN}/{YYYY}{MM}{DD}", "names no span, or two. Expected either {SPAN} or all of"),
        ("{YYYY}{MM}/*", "names no span, or two"),
        ("{VERSION}/*", r"names no span, or two.*received tokens=\['VERSION'\]"),
        ("*", "names no span, or two"),
        ("{SPAN}/{SPAN}", r"has the tokens \['SPAN'\] more than once"),
        ("{SPAN:x}", "has the token {SPAN:x}. Expected a width above 0"),
        ("{SPAN:0}", "Expected a width above 0"),
    ],
)
def test_wrong_patterns_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_patterns({"train": pattern}, tmp_path)


@pytest.mark.parametrize(
    ("patterns", "names", "message"),
    [
        ({"train": "{SPAN}/t"}, [], r"Pattern '{SPAN}/t' of split 'train' matches no file"),
        (
            {"train": "{SPAN}/t", "eval": "{SPAN}/e"},
            ["1/t", "1/e", "2/t"],
            r"split 'eval' lacks 1 .*missing \[\(2, 1\)\]",
        ),
        ({"train": "{YYYY}{MM}{DD}"}, ["20130230"], "has no valid date in its name"),
        ({"train": "{YYYY}{MM}{DD}"}, ["19691231"], "has a date before 1970-01-01"),
        ({"train": "{SPAN}/{VERSION}"}, ["1/0"], "has version 0. Expected versions from 1 on"),
    ],
    ids=["no file", "splits disagree", "no date", "before the epoch", "version zero"],
)
def test_files_that_do_not_fit_are_refused(
    touch: Callable[..., Path], patterns: dict[str, str], names: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        resolve_patterns(patterns, touch(*names))
