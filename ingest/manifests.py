"""Finds spans on disk and checks them against their manifests, without TensorFlow. Writing is `span_writer.py`'s."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from core.digests import digest_of_file
from core.errors import ConfigError, DataError
from core.files import path_inside
from ingest.tfrecords import count_records
from schemas.spans import MANIFEST_NAME, SPLITS, Manifest, SpanFile, SpanRef, span_folder

MAX_RENDERED_NAMES = 10

_VERSION = re.compile(r"version-(\d+)")
_SPAN = re.compile(r"span-(\d{6,})")


@dataclass(frozen=True)
class SpanListing:
    """What a folder of spans holds.

    Attributes:
        manifests: Manifests by span, then version.
        unusable: Why a folder that looks like a span is none, by folder.
    """

    manifests: tuple[Manifest, ...]
    unusable: dict[Path, str]

    @property
    def refs(self) -> tuple[SpanRef, ...]:
        """References of all versions of all spans, by span, then version."""
        return tuple(manifest.ref for manifest in self.manifests)


def list_spans(spans_root: Path) -> SpanListing:
    """Return every version of every span below `spans_root`; only manifests are read, not the files they list."""
    manifests: list[Manifest] = []
    unusable: dict[Path, str] = {}
    for span, version, folder in version_folders(spans_root):
        try:
            manifests.append(read_manifest(spans_root, span, version))
        except DataError as error:
            unusable[folder] = str(error)
    return SpanListing(tuple(manifests), unusable)


def version_folders(spans_root: Path) -> list[tuple[int, int, Path]]:
    """Return span, version and folder of everything below `spans_root` that is named like one, in order."""
    found = []
    for span_name, folder in _subfolders(spans_root, _SPAN):
        for version_name, version_folder in _subfolders(folder, _VERSION):
            found.append((int(span_name[1]), int(version_name[1]), version_folder))
    return sorted(found)


def newest_version(spans_root: Path, span: int) -> int:
    """Return the highest version of a span on disk, usable or not, or 0 if there is none."""
    folders = span_folder(spans_root, span, 1).parent.glob("version-*")
    return max((int(name[1]) for folder in folders if (name := _VERSION.fullmatch(folder.name))), default=0)


def intact_manifest(spans_root: Path, span: int, *, version: int, records_digest: str) -> Manifest | None:
    """Return a version's manifest if it is undamaged on disk and was made from records with this digest, else None."""
    try:
        manifest = read_manifest(spans_root, span, version)
        verify_files(span_folder(spans_root, span, version), manifest)
    except DataError:
        return None
    return manifest if manifest.records_digest == records_digest else None


def read_manifest(spans_root: Path, span: int, version: int) -> Manifest:
    """Return the manifest of one version of a span.

    Raises:
        DataError: there is no such span or version, or its manifest is missing, unreadable or another span's.
    """
    folder = span_folder(spans_root, span, version)
    if not folder.is_dir():
        raise _no_such_span(spans_root, span, version)
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except FileNotFoundError as error:
        raise _broken(span, version, f"has no {MANIFEST_NAME} in {str(folder)!r}") from error
    except (ValidationError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise _broken(span, version, f"has an unreadable manifest: {_first_problem(error) or first_line}") from error
    if (manifest.span, manifest.version) != (span, version):
        raise _broken(
            span, version, f"has the manifest of span {manifest.span} version {manifest.version} in {str(folder)!r}"
        )
    return manifest


def verify_span(folder: Path, manifest: Manifest) -> None:
    """Check that a span's files are exactly those of its manifest, to the byte and the record.

    Raises:
        DataError: a split is missing or empty; a file is missing, unlisted, outside the folder, of another size or
            checksum, damaged, or has another number of examples.
    """
    verify_files(folder, manifest)
    for file in _listed(manifest):
        num_examples = count_records(folder / file.path)
        if num_examples != file.num_examples:
            raise _broken(
                manifest.span,
                manifest.version,
                f"has a wrong example count. Expected {file.num_examples} in {file.path!r}; received {num_examples}",
            )


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check all that `verify_span` checks, except for counting examples.

    Raises:
        DataError: as `verify_span`.
    """
    _check_splits(manifest)
    for file in _listed(manifest):
        _check_file(folder, file, manifest)
    listed = {file.path for file in _listed(manifest)} | {MANIFEST_NAME}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if unlisted := sorted(found - listed)[:MAX_RENDERED_NAMES]:
        raise _broken(manifest.span, manifest.version, f"has files that its manifest does not list: {unlisted}")


def _subfolders(parent: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Path]]:
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                if (name := pattern.fullmatch(entry.name)) and entry.is_dir():
                    yield name, parent / entry.name
    except (FileNotFoundError, NotADirectoryError):
        return


def _check_splits(manifest: Manifest) -> None:
    if set(manifest.files) != set(SPLITS):
        raise _broken(
            manifest.span, manifest.version, f"has splits {sorted(manifest.files)}. Expected {sorted(SPLITS)}"
        )
    for split, files in manifest.files.items():
        if not sum(file.num_examples for file in files):
            raise _broken(manifest.span, manifest.version, f"has no examples in its {split} split")


def _check_file(folder: Path, file: SpanFile, manifest: Manifest) -> None:
    span, version = manifest.span, manifest.version
    try:
        path = path_inside(folder, file.path)
    except ConfigError as error:
        raise _broken(span, version, f"lists {file.path!r}, which lies outside its folder {str(folder)!r}") from error
    if not path.is_file():
        raise _broken(span, version, f"lacks the file {file.path!r} that its manifest lists")
    num_bytes = path.stat().st_size
    if num_bytes != file.num_bytes:
        raise _broken(
            span,
            version,
            f"has a file of the wrong size. Expected {file.num_bytes} bytes in {file.path!r}; received {num_bytes}",
        )
    sha256 = digest_of_file(path)
    if sha256 != file.sha256:
        raise _broken(
            span,
            version,
            f"has a wrong checksum. Expected sha256={file.sha256!r} of {file.path!r}; received {sha256!r}",
        )


def _listed(manifest: Manifest) -> list[SpanFile]:
    return [file for files in manifest.files.values() for file in files]


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return ""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _broken(span: int, version: int, problem: str) -> DataError:
    return DataError(
        f"Span {span} version {version} {problem}. Ingest the span again (`perennial ingest --spans {span}..{span}`): "
        "a damaged version is superseded by the next one, never overwritten."
    )


def _no_such_span(spans_root: Path, span: int, version: int) -> DataError:
    present = [f"{found}v{number}" for found, number, _ in version_folders(spans_root)]
    near = sorted(present, key=lambda name: abs(int(name.split("v")[0]) - span))[:MAX_RENDERED_NAMES]
    return DataError(
        f"Span {span} version {version} does not exist in {str(spans_root)!r}. Expected one of {len(present)} present; "
        f"the nearest are {near}. Ingest it (`perennial ingest --spans {span}..{span}`) or choose another."
    )
