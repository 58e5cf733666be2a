"""What sources that read files have in common: finding them, agreeing on their columns, describing them."""

from collections.abc import Mapping
from pathlib import Path

from core.digests import digest_of_file, digest_of_json
from core.errors import DataError


def find_files(pattern: str, base: Path) -> tuple[Path, ...]:
    """Return the files that a path or glob names, sorted; relative ones start at `base`.

    Raises:
        DataError: none is there.
    """
    whole = base / pattern
    anchor = Path(whole.anchor)
    files = sorted(path for path in anchor.glob(str(whole.relative_to(anchor))) if path.is_file())
    if not files:
        raise DataError(
            f"No source file matches {pattern!r}. Expected at least one file below {str(base.resolve())!r}. "
            "Correct `ingest.source.path` in the config; relative paths start at the working directory."
        )
    return tuple(files)


def common_columns(columns: Mapping[Path, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns of the first file, having checked that the others have the same ones.

    Raises:
        DataError: two files differ in their columns, or one repeats a column.
    """
    first, *others = columns
    expected = columns[first]
    repeated = sorted({name for name in expected if expected.count(name) > 1})
    if repeated:
        raise DataError(
            f"Source file {first.name!r} has columns {repeated} more than once. Rename or drop one of each."
        )
    for other in others:
        if set(columns[other]) != set(expected):
            raise DataError(
                f"Source file {other.name!r} has other columns than {first.name!r}. Expected {sorted(expected)}; "
                f"received {sorted(columns[other])}. Give all files the same columns, or narrow the path."
            )
    return expected


def describe_files(kind: str, pattern: str, files: tuple[Path, ...]) -> dict[str, str]:
    """Return a manifest's description of files: kind, pattern, count and one digest over names and contents."""
    digest = digest_of_json([[file.name, digest_of_file(file)] for file in files])
    return {"kind": kind, "path": pattern, "num_files": str(len(files)), "sha256": digest}
