"""What identifies a span, and the manifest that makes a folder of TFRecord files one."""

from datetime import datetime
from pathlib import Path

from pydantic import Field

from core.digests import digest_of_json
from schemas.base import Record

MANIFEST_NAME = "manifest.json"
SPLITS = ("train", "eval")
# A file of a span inside `Split-{split}` of an Examples artifact, which may hold several spans.
SPAN_FILE_NAME = "span-{span:06d}-{name}"


class SpanRef(Record):
    """One version of one span, pinned by the digest of its content.

    Attributes:
        span: Number of the span, counted from the origin that the config names.
        version: Correction number, from 1.
        digest: `Manifest.digest` of its content.
    """

    span: int = Field(ge=0)
    version: int = Field(ge=1)
    digest: str

    def folder(self, spans_root: Path) -> Path:
        """Return where the architecture's span contract puts this version."""
        return span_folder(spans_root, self.span, self.version)


class SpanFile(Record):
    """One TFRecord file of a span: path relative to the span's folder, SHA-256, size and record count."""

    path: str
    sha256: str
    num_bytes: int = Field(ge=0)
    num_examples: int = Field(ge=0)


class Manifest(Record):
    """Everything a reader needs to trust a span's files.

    Attributes:
        files: Files per split, keyed `train` and `eval`.
        event_time_min: Earliest event in the span, or None where the source has no event time.
        event_time_max: Latest event in the span.
        label_complete_time: When every label of the span is known.
        excluded: Source records that were left out, counted by reason.
        source: What the records came from (kind, file names, offsets), without secrets.
        records_digest: Digest of what the span was made from, split by split: of the examples themselves, or of the
            adopted files. While it stays the same there is nothing to ingest, whatever compressed the files.
    """

    span: int = Field(ge=0)
    version: int = Field(ge=1)
    files: dict[str, tuple[SpanFile, ...]]
    event_time_min: datetime | None = None
    event_time_max: datetime | None = None
    label_complete_time: datetime | None = None
    excluded: dict[str, int] = {}
    source: dict[str, str] = {}
    records_digest: str = ""

    @property
    def num_examples(self) -> int:
        """Examples over all splits."""
        return sum(file.num_examples for files in self.files.values() for file in files)

    @property
    def digest(self) -> str:
        """Digest of the span's content: names and checksums of its files, nothing about when it was made."""
        return digest_of_json({split: [[f.path, f.sha256] for f in files] for split, files in self.files.items()})

    @property
    def ref(self) -> SpanRef:
        """The reference by which a plan names this span."""
        return SpanRef(span=self.span, version=self.version, digest=self.digest)


def span_folder(spans_root: Path, span: int, version: int) -> Path:
    """Return `{root}/span-{N:06d}/version-{V}`."""
    return spans_root / f"span-{span:06d}" / f"version-{version}"
