"""Resolves `{SPAN}`, `{VERSION}` and date patterns to files, by the rules of TFX's file-based ExampleGen."""

import glob
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from core.errors import ConfigError, DataError, did_you_mean
from ingest.file_systems import file_system_of, is_remote

_TOKENS = ("SPAN", "VERSION", "YYYY", "MM", "DD")
_DATE_TOKENS = ("YYYY", "MM", "DD")
_WIDTHS = {"YYYY": 4, "MM": 2, "DD": 2}
_EPOCH = date(1970, 1, 1)
# A pattern without {VERSION} gives each span its first version.
_FIRST_VERSION = 1
MAX_RENDERED_SPANS = 10

SpanFiles = dict[tuple[int, int], dict[str, tuple[str, ...]]]


def present_files(patterns: Mapping[str, str], base: Path) -> SpanFiles:
    """Return what `resolve_patterns` does, of what is there so far: nothing, or spans that lack a split, are no error.

    Raises:
        ConfigError: as `resolve_patterns`.
        DataError: a file's name has no valid date or version.
    """
    return _merge({split: _match(split, pattern, base) for split, pattern in patterns.items()})


def resolve_patterns(patterns: Mapping[str, str], base: Path) -> SpanFiles:
    """Return the files of each split of each (span, version) that the patterns match, sorted.

    `{SPAN}` and `{VERSION}` stand for digits, `{SPAN:6}` for exactly six; `{YYYY}{MM}{DD}`, in any arrangement, make
    the span number by days since 1970-01-01. `*` and `?` match within one folder level.

    Args:
        patterns: Pattern per split; a path, or a URL of a file system that TensorFlow reads.
        base: Folder that relative patterns start at.

    Raises:
        ConfigError: a pattern has an unknown token, no span, both a span and a date, or half a date.
        DataError: a pattern matches no file, or the splits do not have the same spans.
    """
    by_split = {split: _match(split, pattern, base) for split, pattern in patterns.items()}
    for split, files in by_split.items():
        if not files:
            raise _no_file(split, patterns[split], base)
    _check_agreement(by_split)
    return _merge(by_split)


def _merge(by_split: Mapping[str, Mapping[tuple[int, int], list[str]]]) -> SpanFiles:
    found: SpanFiles = defaultdict(dict)
    for split, files in by_split.items():
        for identity in sorted(files):
            found[identity][split] = tuple(sorted(files[identity]))
    return dict(found)


def literal_folder(pattern: str, base: Path) -> Path | None:
    """Return the folder of this machine below which all files of a pattern lie, or None for a remote one."""
    if is_remote(pattern):
        return None
    literal = re.split(r"[{*?]", pattern)[0]
    return (base.resolve() / f"{literal}{{").parent


def names_versions(pattern: str) -> bool:
    """Return whether a pattern says which version a file is of."""
    return "{VERSION" in pattern


def _match(split: str, pattern: str, base: Path) -> dict[tuple[int, int], list[str]]:
    whole = pattern if is_remote(pattern) else str(base.resolve() / pattern)
    # Odd parts are tokens and wildcards, even parts are literal.
    parts = re.split(r"(\{[^{}]*\}|\*|\?)", whole)
    _check_tokens(split, pattern, [part[1:-1] for part in parts[1::2] if part.startswith("{")])
    expression = re.compile("".join(_expression(part) for part in parts))
    globbed = "".join(
        "*" if part.startswith("{") else part if part in ("*", "?") else glob.escape(part) for part in parts
    )
    files: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in file_system_of(pattern).glob(globbed):
        if match := expression.fullmatch(name):
            files[_identity(match, name)].append(name)
    return files


def _no_file(split: str, pattern: str, base: Path) -> DataError:
    return DataError(
        f"Pattern {pattern!r} of split {split!r} matches no file. Expected some from {str(base.resolve())!r} on. "
        "Correct `ingest.source.patterns` in the config."
    )


def _check_tokens(split: str, pattern: str, tokens: list[str]) -> None:
    names = [token.split(":")[0] for token in tokens]
    subject = f"Pattern {pattern!r} of split {split!r}"
    for token, name in zip(tokens, names, strict=True):
        if name not in _TOKENS:
            raise ConfigError(
                f"{subject} has the unknown token {{{token}}}. Expected one of {', '.join(_TOKENS)} in braces. "
                f"Correct it.{did_you_mean(name.upper(), _TOKENS)}"
            )
        width = token.partition(":")[2]
        if ":" in token and (name in _DATE_TOKENS or not width.isdigit() or int(width) == 0):
            raise ConfigError(
                f"{subject} has the token {{{token}}}. Expected a width above 0, as in {{SPAN:6}}. Correct it."
            )
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{subject} has the tokens {doubled} more than once. Keep one of each.")
    dates = [name for name in names if name in _DATE_TOKENS]
    if ("SPAN" in names) == bool(dates) or len(dates) not in (0, len(_DATE_TOKENS)):
        raise ConfigError(
            f"{subject} names no span, or two. Expected either {{SPAN}} or all of {{YYYY}}, {{MM}}, {{DD}}; "
            f"received tokens={names}. Correct it."
        )


def _expression(part: str) -> str:
    if part == "*":
        return "[^/]*"
    if part == "?":
        return "[^/]"
    if not part.startswith("{"):
        return re.escape(part)
    name, _, width = part[1:-1].partition(":")
    digits = width or _WIDTHS.get(name)
    return rf"(?P<{name}>\d{{{int(digits)}}})" if digits else rf"(?P<{name}>\d+)"


def _identity(match: re.Match[str], name: str) -> tuple[int, int]:
    numbers = {token: int(digits) for token, digits in match.groupdict().items()}
    version = numbers.get("VERSION", _FIRST_VERSION)
    if version < _FIRST_VERSION:
        raise DataError(f"File {name!r} has version {version}. Expected versions from {_FIRST_VERSION} on. Rename it.")
    if "SPAN" in numbers:
        return numbers["SPAN"], version
    try:
        day = date(*(numbers[token] for token in _DATE_TOKENS))
    except ValueError as error:
        raise DataError(f"File {name!r} has no valid date in its name: {error}. Rename or move it.") from error
    if day < _EPOCH:
        raise DataError(f"File {name!r} has a date before {_EPOCH}, where span numbers begin. Rename or move it.")
    return (day - _EPOCH).days, version


def _check_agreement(by_split: Mapping[str, Mapping[tuple[int, int], list[str]]]) -> None:
    everywhere = set[tuple[int, int]]().union(*by_split.values())
    for split, files in by_split.items():
        if lacking := sorted(everywhere - files.keys()):
            raise DataError(
                f"The splits do not have the same spans: split {split!r} lacks {len(lacking)} (span, version) that "
                f"others have. Expected none; missing {lacking[:MAX_RENDERED_SPANS]}. Add the files, or move the "
                "others away."
            )
