"""What one call of `ingest` did: counted span by span, then reported."""

from collections import Counter
from dataclasses import dataclass, field

from schemas.base import Record
from schemas.spans import Manifest, SpanRef


class IngestReport(Record):
    """What one call of `ingest` did.

    Attributes:
        written: New versions, as references, in the order they were written.
        unchanged: Versions whose records are still the same.
        held_back: Records in spans that are not complete yet, by span.
        skipped: Why a span has no version although it is complete, by span.
        excluded: Records left out of the spans written or unchanged, by reason.
        num_records: Records read; adopted examples for sources of spans.
        num_examples: Examples per split, over the spans written or unchanged.
    """

    written: tuple[SpanRef, ...] = ()
    unchanged: tuple[SpanRef, ...] = ()
    held_back: dict[int, int] = {}
    skipped: dict[int, str] = {}
    excluded: dict[str, int] = {}
    num_records: int = 0
    num_examples: dict[str, int] = {}


@dataclass
class Tally:
    """What the report will say, while it is being found out."""

    written: list[SpanRef] = field(default_factory=list)
    unchanged: list[SpanRef] = field(default_factory=list)
    held_back: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)
    num_examples: Counter[str] = field(default_factory=Counter)

    def add(self, manifest: Manifest, *, is_written: bool) -> str:
        """Count a span that is on disk now, and say what happened to it."""
        (self.written if is_written else self.unchanged).append(manifest.ref)
        self.excluded.update(manifest.excluded)
        for split, files in manifest.files.items():
            self.num_examples[split] += sum(file.num_examples for file in files)
        action = "written" if is_written else "unchanged"
        return f"span {manifest.span} version {manifest.version}: {manifest.num_examples} examples, {action}"

    def hold_back(self, span: int, num_records: int) -> str:
        """Count a span that is not complete yet, and say so."""
        self.held_back[span] = num_records
        return f"span {span}: {num_records} records held back until it is complete"

    def skip(self, span: int, reason: str) -> str:
        """Note why a complete span cannot be, and say so."""
        self.skipped[span] = reason
        return f"span {span}: skipped, {reason}"

    def report(self, num_records: int) -> IngestReport:
        """Return everything counted so far."""
        return IngestReport(
            written=tuple(self.written),
            unchanged=tuple(self.unchanged),
            held_back=self.held_back,
            skipped=self.skipped,
            excluded=dict(sorted((+self.excluded).items())),
            num_records=num_records,
            num_examples=dict(self.num_examples),
        )
