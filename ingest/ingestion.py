"""`ingest`: everything a source has becomes spans on disk; what is there already stays as it is."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2

from core.errors import DataError
from ingest.adoption import adopt_if_changed
from ingest.manifests import intact_manifest, newest_version
from ingest.patterns import names_versions, resolve_patterns
from ingest.records import Records, read_records
from ingest.report import IngestReport, Tally
from ingest.sources import Source, open_source
from ingest.span_writer import DUPLICATE_REASON, SpanContent, span_content, write_span
from ingest.windows import Windows
from schemas.ingestion import IngestOptions, TfRecordOptions
from schemas.loader import feature_types
from schemas.spans import SPLITS, Manifest

BEFORE_FIRST_SPAN_REASON = "event before the first span"
FUTURE_REASON = "event in the future"

# Called after each span with how many are done, how many there are, and what happened to this one.
Progress = Callable[[int, int, str], None]


def ingest(
    options: IngestOptions,
    spans_root: Path,
    *,
    schema: schema_pb2.Schema,
    base: Path = Path(),
    spans: range | None = None,
    now: datetime | None = None,
    on_progress: Progress = lambda done, total, sentence: None,
) -> IngestReport:
    """Write every complete span of a source that is not on disk yet, or whose records have changed since.

    A second call with the same records writes nothing. Changed records become the span's next version, and so do the
    records of a span whose files were damaged. A killed call leaves whole spans behind and nothing else.

    Args:
        options: The source and how to cut it.
        spans_root: Folder of all spans.
        schema: Reviewed schema; its features are the columns that spans have.
        base: Folder that the source's relative paths start at.
        spans: Numbers of the spans to write; all by default.
        now: Events after this instant are left out: one broken clock must not make every span look complete. The
            present by default.
        on_progress: Told about each span.

    Raises:
        DataError: the source is missing, unreadable or does not fit the schema, or has none of the asked spans.
        ConfigError: a pattern of the source is wrong.
    """
    if isinstance(options.source, TfRecordOptions):
        return _ingest_spans(options.source, spans_root, base=base, spans=spans, on_progress=on_progress)
    source = open_source(options.source, base)
    records = read_records(
        source,
        feature_types(schema),
        label=options.label_column,
        label_required=options.label_required,
        timezone=options.timezone,
    )
    cutter = _Cutter(options, source, spans_root)
    return _ingest_records(cutter, records, spans=spans, now=now or datetime.now(UTC), on_progress=on_progress)


class _Cutter:
    """Makes single spans of a source's records, by the options.

    Args:
        options: How to cut; `origin` is set.
        source: What the records came from.
        spans_root: Folder of all spans.
    """

    def __init__(self, options: IngestOptions, source: Source, spans_root: Path) -> None:
        self.windows = Windows(options.window, cast("date", options.origin), options.first_span, options.timezone)
        self._complete_before = options.complete_before or source.complete_before
        self._options = options
        self._description = source.describe()
        self._spans_root = spans_root

    def is_complete(self, span: int, last_day: date) -> bool:
        """Return whether the source has all of a span, given the local day of its last event."""
        return self.windows.first_day(span + 1) <= (self._complete_before or last_day)

    def cut(self, span: int, records: Records, tally: Tally) -> str:
        """Write the span unless it is there already, count it, and say what happened."""
        usable = records.usable()
        if not len(usable):
            return tally.skip(span, f"none of its {len(records)} records can be used")
        content = span_content(usable, self._options.eval_fraction)
        for split in SPLITS:
            if not content.examples[split]:
                return tally.skip(span, f"its {len(usable)} usable records leave the {split} split empty")
        newest = newest_version(self._spans_root, span)
        known = intact_manifest(self._spans_root, span, version=newest, records_digest=content.digest)
        manifest = known or self._write(content, span, version=newest + 1, excluded=records.excluded())
        return tally.add(manifest, is_written=known is None)

    def _write(self, content: SpanContent, span: int, *, version: int, excluded: Counter[str]) -> Manifest:
        delay = self._options.label_delay_hours
        excluded = excluded + Counter({DUPLICATE_REASON: content.num_duplicates})
        return write_span(
            content,
            self._spans_root,
            span=span,
            version=version,
            excluded=dict(sorted(excluded.items())),
            source=self._description,
            label_delay=None if delay is None else timedelta(hours=delay),
        )


def _ingest_records(
    cutter: _Cutter, records: Records, *, spans: range | None, now: datetime, on_progress: Progress
) -> IngestReport:
    windows, tally = cutter.windows, Tally()
    is_early = records.times < _instant(windows.start(windows.first_span))
    is_future = records.times > _instant(now)
    tally.excluded.update({BEFORE_FIRST_SPAN_REASON: int(is_early.sum()), FUTURE_REASON: int(is_future.sum())})
    in_time = records.where(~(is_early | is_future))
    days = windows.local_days(in_time.times)
    records_of = dict(in_time.by_span(windows.span_numbers(days)))
    chosen = _choose(range(min(records_of), max(records_of) + 1) if records_of else range(0), spans)
    last_day = cast("date", days.max().item())
    for done, span in enumerate(chosen, start=1):
        found = records_of.get(span)
        if not cutter.is_complete(span, last_day):
            sentence = tally.hold_back(span, len(found) if found else 0)
        elif found is None:
            sentence = tally.skip(span, "it has no records")
        else:
            sentence = cutter.cut(span, found, tally)
        on_progress(done, len(chosen), sentence)
    return tally.report(len(records))


def _ingest_spans(
    options: TfRecordOptions, spans_root: Path, *, base: Path, spans: range | None, on_progress: Progress
) -> IngestReport:
    found = resolve_patterns(options.patterns.model_dump(), base)
    has_versions = names_versions(options.patterns.train)
    numbers = set(_choose(sorted({span for span, _ in found}), spans))
    chosen = sorted((span, version) for span, version in found if span in numbers)
    tally = Tally()
    for done, (span, version) in enumerate(chosen, start=1):
        named_version = version if has_versions else None
        manifest, is_written = adopt_if_changed(found[span, version], spans_root, span=span, version=named_version)
        on_progress(done, len(chosen), tally.add(manifest, is_written=is_written))
    return tally.report(sum(tally.num_examples.values()))


def _choose(present: Sequence[int], spans: range | None) -> list[int]:
    chosen = [span for span in present if spans is None or span in spans]
    if not chosen:
        asked = "all" if spans is None else f"{spans.start}..{spans.stop - 1}"
        there = f"{present[0]}..{present[-1]}" if present else "none, all events are before `origin` or in the future"
        raise DataError(
            f"The source has none of the spans asked for. Expected spans among {there}; received {asked}. "
            "Choose other spans, or correct `origin` in the config."
        )
    return chosen


def _instant(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
