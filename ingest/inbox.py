"""The folder in which somebody else writes spans of TFRecord files: what is new or changed there is adopted, cheaply.

Nothing is read of a file whose name, time and size were seen before. How one span is adopted is in `adoption.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.digests import digest_of_json
from core.errors import DataError
from core.files import write_text_atomically
from ingest.adoption import adopt_if_changed
from ingest.file_systems import FileStamp, file_system_of
from ingest.patterns import names_versions, present_files
from schemas.ingestion import TfRecordOptions
from schemas.spans import MANIFEST_NAME, SPLITS, span_folder

# Which files were adopted, so that a restart reads none of them again. It only saves work and may be removed.
MEMORY_NAME = ".adopted.json"

Identity = tuple[int, int]


@dataclass(frozen=True)
class InboxReport:
    """What one look found.

    Attributes:
        waiting: What is there of a span that is not whole, or cannot be adopted, by span.
        num_settling: Spans whose files may still be written; it is worth looking again soon.
    """

    waiting: dict[int, str] = field(default_factory=dict)
    num_settling: int = 0


class Inbox:
    """Adopts the spans of a pattern source, each when it is whole.

    Args:
        options: The patterns.
        spans_root: Folder of our own spans.
        base: Folder that relative patterns start at.
        settle_nanoseconds: Files count as whole when two looks saw the same, or when they are so old; 0: at once.
        now: Wall time in nanoseconds since 1970, as file systems stamp files.
    """

    def __init__(
        self,
        options: TfRecordOptions,
        spans_root: Path,
        *,
        base: Path = Path(),
        settle_nanoseconds: int = 0,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        self._options = options
        self._spans_root = spans_root
        self._base = base
        self._settle_nanoseconds = settle_nanoseconds
        self._now = now
        self._memory_path = spans_root / MEMORY_NAME
        self._adopted = self._remembered()
        self._before: dict[Identity, str] = {}
        self._failed: dict[Identity, tuple[str, str]] = {}

    def adopt_new(self) -> InboxReport:
        """Adopt every span that is new or changed, and whole.

        Raises:
            ConfigError: a pattern is wrong, or names a file system that TensorFlow does not read.
            DataError: the name of a file has no valid date or version, so that nothing says which span it is of.
            UnavailableError: the source cannot be read now.
        """
        waiting: dict[int, str] = {}
        seen: dict[Identity, str] = {}
        num_settling, num_adopted = 0, 0
        for (span, version), files in sorted(present_files(self._options.patterns.model_dump(), self._base).items()):
            try:
                stamps = _stamps(span, files)
                seen[span, version] = stamp = digest_of_json(stamps)
                if self._is_adopted((span, version), stamp):
                    continue
                if not self._is_settled((span, version), stamp, stamps):
                    num_settling += 1
                    continue
                self._adopt((span, version), stamp, files)
                num_adopted += 1
            except DataError as error:
                waiting[span] = str(error)
        self._before = seen
        if num_adopted:
            self._remember()
        return InboxReport(waiting, num_settling)

    def _is_adopted(self, identity: Identity, stamp: str) -> bool:
        known, version = self._adopted.get(identity, ("", 0))
        folder = span_folder(self._spans_root, identity[0], version)
        return known == stamp and (folder / MANIFEST_NAME).exists()

    def _is_settled(self, identity: Identity, stamp: str, stamps: list[FileStamp]) -> bool:
        newest = max(nanoseconds for _, nanoseconds, _ in stamps)
        is_old = self._now() - newest >= self._settle_nanoseconds
        return not self._settle_nanoseconds or is_old or self._before.get(identity) == stamp

    def _adopt(self, identity: Identity, stamp: str, files: Mapping[str, tuple[str, ...]]) -> None:
        failed_stamp, why = self._failed.get(identity, ("", ""))
        if failed_stamp == stamp:
            raise DataError(why)
        span, version = identity
        named_version = version if names_versions(self._options.patterns.train) else None
        try:
            manifest, _ = adopt_if_changed(files, self._spans_root, span=span, version=named_version)
        except DataError as error:
            self._failed[identity] = (stamp, str(error))
            raise
        self._adopted[identity] = (stamp, manifest.version)

    def _remembered(self) -> dict[Identity, tuple[str, int]]:
        try:
            rows = json.loads(self._memory_path.read_text(encoding="utf-8"))
            return {(row[0], row[1]): (row[2], row[3]) for row in rows}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def _remember(self) -> None:
        rows = [[*identity, *memory] for identity, memory in sorted(self._adopted.items())]
        write_text_atomically(self._memory_path, json.dumps(rows))


def _stamps(span: int, files: Mapping[str, tuple[str, ...]]) -> list[FileStamp]:
    if lacking := [split for split in SPLITS if split not in files]:
        raise DataError(
            f"Span {span} is not whole yet: it has no file of {', '.join(lacking)}. Expected files of every split, as "
            "`ingest.source.patterns` says. Add them, or move the others away."
        )
    names = [name for split in SPLITS for name in files[split]]
    return [file_system_of(name).stamp(name) for name in names]
