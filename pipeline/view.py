"""Reads from the ledger what a look at the triggers rests on: some hundred rows, however long the history is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time

from ledger.ledger import Ledger
from pipeline.arrivals import Findings
from pipeline.config import Config
from pipeline.plan import DONE_STATES
from pipeline.ticks import MAX_FINISHED, MAX_WAITING, Running, TriggerView
from schemas.gate import HEADLINE_METRIC
from schemas.ledger_records import SpanRecord
from schemas.spans import SpanRef

# Beside the policies' own rows, whose names begin with a letter or a digit.
LOOKED_AT = "_looked_at"
_AFTER_ALL_SPANS = 2**31 - 1


@dataclass(frozen=True)
class ProcessState:
    """What the daemon knows and the ledger does not.

    Attributes:
        now: Wall time, in UTC.
        running: The cycle that runs in this process.
        is_first_look: No look of this process has been recorded yet.
        deferred: Corrections that wait for the next cycle of another span, so that they start none.
    """

    now: datetime
    running: Running | None = None
    is_first_look: bool = False
    deferred: frozenset[SpanRef] = frozenset()


def read_view(ledger: Ledger, config: Config, findings: Findings, state: ProcessState) -> TriggerView:
    """Return what is known now.

    Args:
        ledger: The pipeline's ledger, in which all arrivals are registered.
        config: The pipeline's config.
        findings: What the last look at the disk found.
        state: What only this process knows.
    """
    latest = ledger.newest_spans(before=_AFTER_ALL_SPANS, limit=MAX_FINISHED + MAX_WAITING)
    newest = next(iter(latest), None)
    waiting = _waiting(ledger, newest, state)
    champion = ledger.champion()
    requests = tuple(ledger.waiting_requests())
    fired = ledger.fired()
    return TriggerView(
        waiting=waiting,
        predecessors=_predecessors(ledger, waiting),
        unusable=findings.unusable,
        finished=_finished(ledger, latest, waiting),
        metric=HEADLINE_METRIC[config.label.task],
        line_start_span=champion.line_start_span if champion else None,
        last_full_training_span=ledger.last_full_training_span(),
        cold_spans=None if champion else config.window.cold_spans,
        newest_span=newest.span if newest else None,
        newest_arrived_at=newest.arrived_at if newest else None,
        requests=requests,
        requested=_requested(ledger, (request.span for request in requests)),
        running=state.running,
        last_run_finished_at=ledger.last_run_finished_at(),
        fired={policy: at for policy, at in fired.items() if policy != LOOKED_AT},
        compute_seconds_today=ledger.run_seconds_since(datetime.combine(state.now.date(), time(), UTC)),
        looked_at=fired.get(LOOKED_AT),
        has_just_started=state.is_first_look,
    )


def _waiting(ledger: Ledger, newest: SpanRecord | None, state: ProcessState) -> tuple[SpanRecord, ...]:
    records = ledger.open_spans(limit=MAX_WAITING + 1)
    if newest is not None and newest.state == "arrived":
        records.append(newest)
    elsewhere = state.deferred | ({state.running.span} if state.running else set())
    waiting = {record.ref: record for record in records if record.ref not in elsewhere}
    ordered = sorted(waiting.values(), key=lambda record: (record.span, record.version))
    return (*ordered[:MAX_WAITING], *ordered[MAX_WAITING:][-1:])


def _predecessors(ledger: Ledger, waiting: Iterable[SpanRecord]) -> dict[int, int]:
    """Return the known span before each; the ledger is asked only where the one before does not wait itself."""
    spans = {record.span for record in waiting}
    predecessors = {span: span - 1 for span in spans if span - 1 in spans}
    for span in spans - predecessors.keys():
        for known in ledger.newest_spans(before=span, limit=1):
            predecessors[span] = known.span
    return predecessors


def _finished(ledger: Ledger, latest: list[SpanRecord], waiting: tuple[SpanRecord, ...]) -> tuple[SpanRecord, ...]:
    """Return the newest finished spans; those before a long row of waiting ones are looked for behind it."""
    is_behind = bool(waiting) and not any(record.state in DONE_STATES for record in latest)
    earlier = ledger.newest_spans(before=waiting[0].span, limit=MAX_FINISHED) if is_behind else []
    finished = {record.span: record for record in [*latest, *earlier] if record.state in DONE_STATES}
    return tuple(finished[span] for span in sorted(finished, reverse=True)[:MAX_FINISHED])


def _requested(ledger: Ledger, spans: Iterable[int | None]) -> dict[int, SpanRecord]:
    requested = {}
    for span in {span for span in spans if span is not None}:
        if versions := [record for record in ledger.versions_of(span) if record.state != "superseded"]:
            requested[span] = versions[-1]
    return requested
