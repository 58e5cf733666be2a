"""Work through a range of spans that were left out: read what is known of it, and do what was planned.

What would be done is decided in `backfill_plan.py`, and once more right before each step: every run changes what is
known.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from core.clock import Clock
from core.errors import DataError
from ingest.manifests import newest_version, read_manifest
from ledger.ledger import Ledger
from pipeline.arrivals import Discovery
from pipeline.backfill_plan import REOPENED_STATES, TRIGGER, BackfillStep, Findings, FoundSpan
from pipeline.config import Config
from pipeline.corrections import find_repair, read_history
from pipeline.decision import Decision
from pipeline.plan import Knowledge, Request, Skip
from schemas.ledger_records import SpanRecord
from schemas.spans import SpanRef
from schemas.training import ModelShape


class Runs(Protocol):
    """What a backfill needs of `pipeline.controller.Controller`."""

    clock: Clock

    def resume(self) -> Decision | None:
        """Finish what a dead worker left."""

    def run_request(self, request: Request) -> Decision | Skip:
        """Run one cycle; if the span is a correction, the repair that it is due for."""


def read_findings(ledger: Ledger | None, config: Config, spans: range) -> Findings:
    """Read what is known of a range of spans; nothing is written, and no span registered.

    Args:
        ledger: The pipeline's ledger; None where there is none yet.
        config: The pipeline's config.
        spans: The range.
    """
    num_before = config.window.cold_spans
    first = max(0, spans.start - num_before)
    rows = ledger.spans(first, spans.stop - 1) if ledger else []
    older = ledger.newest_spans(before=first, limit=num_before) if ledger else []
    known: defaultdict[int, list[SpanRecord]] = defaultdict(list)
    for row in rows:
        known[row.span].append(row)
    found = {span: _find(config, span, known[span]) for span in range(first, spans.stop)}
    usable = [each.ref for each in found.values() if each.ref is not None and each.unusable is None]
    knowledge = Knowledge(
        spans=(*(row.ref for row in reversed(older)), *usable),
        records=(*older, *rows),
        champion=ledger.champion() if ledger else None,
        shape=ModelShape(feature_set=config.feature_set, model=config.training.model),
    )
    return Findings(
        spans=tuple(_with_repair(found[span], ledger, config) for span in spans),
        knowledge=knowledge,
        learned=_learned(ledger) if ledger and knowledge.champion else frozenset(),
    )


def run_backfill(
    steps: Sequence[BackfillStep], runs: Runs, ledger: Ledger, config: Config
) -> Iterator[Decision | Skip]:
    """Do what was planned, span by span. The ledger's lease is the caller's to take.

    A span that was learned meanwhile, in the window of one before it, is left out.
    """
    Discovery(config, clock=runs.clock).register(ledger)
    while (left := runs.resume()) is not None:
        yield left
    for step in steps:
        if step.ref is not None and step.changes_something:
            yield _do(step, step.ref, runs, ledger)


def _do(step: BackfillStep, ref: SpanRef, runs: Runs, ledger: Ledger) -> Decision | Skip:
    state = ledger.span(ref).state
    if state == step.state and step.action == "reopen" and (ref.span, ref.version) not in _learned(ledger):
        # Without its replay buffer, which the row's new time would make look like the newest one.
        why = f"Opened again by a backfill; it was {state}."
        state = ledger.move_span(ref, "arrived", reason=why, replay_uri=None).state
    if state != "arrived":
        return Skip(reason=f"Span {ref.span} version {ref.version} is {state} by now.", span=ref)
    return runs.run_request(Request(span=ref, trigger=TRIGGER, now=runs.clock.now()))


def _find(config: Config, span: int, known: Sequence[SpanRecord]) -> FoundSpan:
    version = newest_version(config.spans_path, span)
    if version == 0:
        if not known:
            return FoundSpan(span=span)
        return FoundSpan(span=span, ref=known[-1].ref, record=known[-1], unusable="Its files are gone.")
    try:
        ref = read_manifest(config.spans_path, span, version).ref
    except DataError as error:
        return FoundSpan(span=span, unusable=str(error))
    return FoundSpan(span=span, ref=ref, record=next((row for row in known if row.ref == ref), None))


def _with_repair(found: FoundSpan, ledger: Ledger | None, config: Config) -> FoundSpan:
    may_run = found.unusable is None and (found.record is None or found.record.state in {"arrived", *REOPENED_STATES})
    if ledger is None or found.ref is None or found.ref.version == 1 or not may_run:
        return found
    return found.model_copy(update={"repair": find_repair(ledger, config, found.ref)})


def _learned(ledger: Ledger) -> frozenset[tuple[int, int]]:
    history = read_history(ledger)
    refs = history.learned_by(history.line(history.champion_version))
    return frozenset((ref.span, ref.version) for ref in refs)
