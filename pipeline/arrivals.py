"""What spans have come since the last look: names are listed, and only manifests that are new or changed are read.

Being told of new files, instead of looking again and again, is `waker.py`'s.
"""

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from core.clock import Clock, SystemClock
from core.errors import DataError
from ingest.manifests import read_manifest, version_folders
from pipeline.config import Config
from schemas.ingestion import TfRecordOptions
from schemas.ledger_records import SpanArrival
from schemas.spans import MANIFEST_NAME, Manifest

# Time of the manifest's last change in nanoseconds, and its size in bytes; None where there is no manifest.
_Stamp = tuple[int, int] | None
_Identity = tuple[int, int]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SpanRegister(Protocol):
    """Where arrivals are written down: the ledger."""

    def register_spans(self, arrivals: Iterable[SpanArrival]) -> int:
        """Record what has arrived and is not known; tell how many."""


@dataclass(frozen=True)
class Findings:
    """What one look found.

    Attributes:
        arrivals: Versions of spans that have come, or whose manifest changed, since the last look that was confirmed;
            by span, then version.
        unusable: Why the newest version of a span on disk, or its source, cannot be used, by span.
        num_settling: Spans whose files somebody may still be writing: it is worth looking again soon.
    """

    arrivals: tuple[SpanArrival, ...] = ()
    unusable: dict[int, str] = field(default_factory=dict)
    num_settling: int = 0


class Discovery:
    """Looks for arrivals on disk, and adopts the spans of a TFRecord source first.

    A look costs one stat per version of a span. What was found is found again until `confirm`, so that a ledger that is
    away for a moment loses nothing.

    Args:
        config: Where spans lie, and what their source is.
        clock: Tells how old a file is.
        settle_seconds: Source files count as whole when two looks saw the same, or when they are so old; 0: at once.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, settle_seconds: float = 0.0) -> None:
        self._config = config
        self._root = config.spans_path
        self._stamps: dict[_Identity, _Stamp] = {}
        self._pending: dict[_Identity, SpanArrival] = {}
        self._broken: dict[_Identity, str] = {}
        self._adopt_new = _adopter(config, clock or SystemClock(), settle_seconds)

    def look(self) -> Findings:
        """Return what has come since the last confirmed look.

        Raises:
            ConfigError: a pattern of the source is wrong.
            DataError: a file of the source has a name that says no span.
            UnavailableError: the source cannot be read now.
        """
        waiting, num_settling = self._adopt_new()
        present = {(span, version): _stamp(folder) for span, version, folder in version_folders(self._root)}
        for identity in self._stamps.keys() - present.keys():
            self._forget(identity)
        for identity, stamp in present.items():
            if identity not in self._stamps or self._stamps[identity] != stamp:
                self._read(identity, stamp)
        arrivals = tuple(self._pending[identity] for identity in sorted(self._pending))
        return Findings(arrivals, self._unusable(present) | waiting, num_settling)

    def confirm(self, findings: Findings) -> None:
        """Do not find these arrivals again: they are in the ledger."""
        for arrival in findings.arrivals:
            identity = (arrival.ref.span, arrival.ref.version)
            if self._pending.get(identity) == arrival:
                del self._pending[identity]

    def register(self, ledger: SpanRegister) -> Findings:
        """Look, and write down in the ledger what has come."""
        findings = self.look()
        ledger.register_spans(findings.arrivals)
        self.confirm(findings)
        return findings

    def _read(self, identity: _Identity, stamp: _Stamp) -> None:
        self._forget(identity)
        self._stamps[identity] = stamp
        try:
            self._pending[identity] = span_arrival(read_manifest(self._root, *identity))
        except DataError as error:
            # Its writer may be in the middle of it; a changed stamp makes us read it again.
            self._broken[identity] = str(error)

    def _forget(self, identity: _Identity) -> None:
        self._stamps.pop(identity, None)
        self._pending.pop(identity, None)
        self._broken.pop(identity, None)

    def _unusable(self, present: Collection[_Identity]) -> dict[int, str]:
        newest: dict[int, int] = {}
        if self._broken:
            for span, version in present:
                newest[span] = max(version, newest.get(span, 0))
        return {span: why for (span, version), why in sorted(self._broken.items()) if version == newest[span]}


def span_arrival(manifest: Manifest) -> SpanArrival:
    """Return what the ledger records of a manifest; a time without a UTC offset is taken as UTC."""
    return SpanArrival(
        ref=manifest.ref,
        num_examples=manifest.num_examples,
        label_complete_time=_aware(manifest.label_complete_time),
        event_time_max=_aware(manifest.event_time_max),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _stamp(folder: Path) -> _Stamp:
    try:
        status = os.stat(folder / MANIFEST_NAME)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _adopter(config: Config, clock: Clock, settle_seconds: float) -> Callable[[], tuple[dict[int, str], int]]:
    if not isinstance(config.ingest.source, TfRecordOptions):
        return lambda: ({}, 0)
    # Adopting imports NumPy, which most pipelines need not wait for here.
    from ingest.inbox import Inbox

    inbox = Inbox(
        config.ingest.source,
        config.spans_path,
        settle_nanoseconds=round(settle_seconds * 1e9),
        now=lambda: (clock.now() - _EPOCH) // timedelta(microseconds=1) * 1000,
    )

    def adopt() -> tuple[dict[int, str], int]:
        report = inbox.adopt_new()
        return report.waiting, report.num_settling

    return adopt
