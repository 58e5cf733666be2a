"""Takes folders of TFRecord files that are spans already into the span layout, without decoding an example."""

import gzip
import shutil
from collections.abc import Mapping
from pathlib import Path

from core.digests import digest_of_file, digest_of_json
from core.files import link_or_copy
from ingest.file_systems import local_copies
from ingest.manifests import intact_manifest, newest_version, verify_files
from ingest.span_writer import describe_file, new_version, write_manifest
from ingest.tfrecords import SUFFIX, count_records
from schemas.spans import Manifest, SpanFile, span_folder


def digest_of_files(files: Mapping[str, tuple[Path, ...]]) -> str:
    """Return the digest of the files to adopt, split by split, in order."""
    return digest_of_json({split: [digest_of_file(path) for path in paths] for split, paths in files.items()})


def adopt_if_changed(
    names: Mapping[str, tuple[str, ...]], spans_root: Path, *, span: int, version: int | None
) -> tuple[Manifest, bool]:
    """Adopt the files of a span, fetched if need be, unless just these are there already.

    Args:
        names: Files of each split.
        spans_root: Folder of all spans.
        span: Number of the span.
        version: What the files' names say; None where they say nothing, so that changed files are the next version.

    Returns:
        The manifest, and whether the span was written now.

    Raises:
        DataError: as `adopt_span`; or `version` is there already with other content.
        UnavailableError: a file cannot be fetched now.
    """
    with local_copies(names) as files:
        newest = newest_version(spans_root, span) if version is None else version
        known = intact_manifest(spans_root, span, version=newest, records_digest=digest_of_files(files))
        if known is not None:
            return known, False
        origins = {split: paths[0].rpartition("/")[0] for split, paths in names.items()}
        next_version = newest + 1 if version is None else version
        return adopt_span(files, spans_root, span=span, version=next_version, origins=origins), True


def adopt_span(
    files: Mapping[str, tuple[Path, ...]], spans_root: Path, *, span: int, version: int, origins: Mapping[str, str]
) -> Manifest:
    """Make a version of a span from the files of each split, whole or not at all.

    Gzipped files are linked where the file system can, and must never be modified afterwards; others are compressed.

    Args:
        files: Files of each split, on this machine.
        spans_root: Folder of all spans.
        span: Number of the span.
        version: Its version.
        origins: Folder or URL that each split came from, for the manifest.

    Raises:
        DataError: a file is damaged or a split has no examples.
    """
    with new_version(span_folder(spans_root, span, version)) as temporary:
        manifest = Manifest(
            span=span,
            version=version,
            files={split: _adopt_files(temporary, split, paths) for split, paths in files.items()},
            source={"kind": "tfrecord", **origins},
            records_digest=digest_of_files(files),
        )
        verify_files(temporary, manifest)
        write_manifest(temporary, manifest)
    return manifest


def _adopt_files(folder: Path, split: str, paths: tuple[Path, ...]) -> tuple[SpanFile, ...]:
    adopted = []
    for number, path in enumerate(paths):
        num_examples = count_records(path)
        target = folder / f"Split-{split}" / f"examples-{number:05d}-of-{len(paths):05d}{SUFFIX}"
        if path.suffix == ".gz":
            link_or_copy(path.resolve(), target)
        else:
            _compress(path, target)
        adopted.append(describe_file(folder, target, num_examples))
    return tuple(adopted)


def _compress(path: Path, target: Path) -> None:
    """Gzip a file without time or name in the header, so that equal files stay equal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as plain, target.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
        shutil.copyfileobj(plain, stream)
