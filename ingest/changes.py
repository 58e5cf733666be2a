"""How much a corrected version of a span differs from the one before, by the examples alone and without TensorFlow."""

from collections import Counter
from pathlib import Path

from pydantic import Field

from core.errors import DataError
from ingest.manifests import read_manifest
from ingest.tfrecords import record_digests
from schemas.base import Record
from schemas.spans import Manifest, SpanRef, span_folder


class Change(Record):
    """What a correction did to the examples of a span, as bags of records: their order means nothing.

    An altered example is one that was removed and one that was added in its place. An example that moved to the other
    split is altered too, since what was learned from is then judged by, or the other way round.

    Attributes:
        num_before: Examples of the version before.
        num_after: Examples of the correction.
        num_added: Examples that only the correction has.
        num_removed: Examples that only the version before has.
    """

    num_before: int = Field(ge=0)
    num_after: int = Field(ge=0)
    num_added: int = Field(ge=0)
    num_removed: int = Field(ge=0)

    @property
    def share(self) -> float:
        """Share of examples that were added, removed or altered, in [0, 1].

        Example:
            >>> Change(num_before=100, num_after=101, num_added=3, num_removed=2).share
            0.0297029702970297
        """
        return max(self.num_added, self.num_removed) / max(self.num_before, self.num_after, 1)


def change_between(spans_root: Path, before: SpanRef, after: SpanRef) -> Change:
    """Compare two versions of a span, reading each once; memory is of the order of 100 bytes an example.

    Args:
        spans_root: Folder of all spans.
        before: The version that models learned from.
        after: The correction.

    Raises:
        DataError: a version is not there, is not the one that was asked for, or a file is damaged.
    """
    manifests = [_manifest(spans_root, ref) for ref in (before, after)]
    shared = set(_files(manifests[0])) & set(_files(manifests[1]))
    surplus: Counter[tuple[str, bytes]] = Counter()
    for manifest, amount in zip(manifests, (1, -1), strict=True):
        folder = span_folder(spans_root, manifest.span, manifest.version)
        for split, path, _ in sorted(set(_files(manifest)) - shared):
            for digest in record_digests(folder / path):
                surplus[split, digest] += amount
    return Change(
        num_before=manifests[0].num_examples,
        num_after=manifests[1].num_examples,
        num_removed=sum(count for count in surplus.values() if count > 0),
        num_added=-sum(count for count in surplus.values() if count < 0),
    )


def _manifest(spans_root: Path, ref: SpanRef) -> Manifest:
    manifest = read_manifest(spans_root, ref.span, ref.version)
    if manifest.digest != ref.digest:
        raise DataError(
            f"Span {ref.span} version {ref.version} on disk is not the one in the ledger. Expected "
            f"digest={ref.digest!r}; received {manifest.digest!r}. A version is never overwritten: restore its folder."
        )
    return manifest


def _files(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Return split, path and checksum of a version's files; what is equal in both need not be read."""
    return [(split, file.path, file.sha256) for split, files in manifest.files.items() for file in files]
