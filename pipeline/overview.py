"""Everything about a pipeline that a person or a script asks for at once, read from its ledger in one go."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime

from ledger.holders import is_dead
from ledger.ledger import Ledger
from monitoring.prequential import summarise
from pipeline.arrivals import Findings
from pipeline.config import Config
from pipeline.triggers import tick
from pipeline.view import ProcessState, read_view
from schemas.base import Record
from schemas.gate import HEADLINE_METRIC
from schemas.ledger_records import RunOutcome, RunRecord, SpanRecord, SpanState, TriggerRequest
from schemas.scores import PrequentialSummary, prequential_history

# Newest runs that are looked through: for those that are open, the one that ended last, and what failed.
_MAX_RUNS = 1000


class ChampionStatus(Record):
    """The model that serves, and the span that made it.

    Attributes:
        since: When it became the champion.
        previous: The champion before it; None for the first.
        moved_by: `cycle`, or the command that asked: `promote`, `rollback`.
        reason: Why, in the words of whoever moved it.
    """

    version: int
    span: int
    since: AwareDatetime
    previous: int | None = None
    moved_by: str | None = None
    reason: str | None = None


class SpanStatus(Record):
    """One row of the table; `seconds` is the wall time of the span's run, `prequential` all metrics of that score.

    Attributes:
        reason: Why it is in that state, or, for one that waits after a failure, what failed.
    """

    span: int
    version: int
    state: SpanState
    examples: int
    drift_verdict: str | None
    candidate_auc: float | None
    champion_auc: float | None
    prequential: dict[str, float] | None
    pushed_version: int | None
    seconds: float | None
    run_id: str | None
    reason: str | None
    updated_at: AwareDatetime


class OpenRun(Record):
    """A run without an outcome: it is running, or its worker died and the next one finishes it.

    Attributes:
        attempts: Times it was started since a node of it last finished.
        max_attempts: After so many its span is quarantined.
    """

    run_id: str
    span: int
    version: int
    trigger: str
    attempts: int
    max_attempts: int
    started_at: AwareDatetime


class LastRun(Record):
    """The run that ended last."""

    run_id: str
    span: int
    version: int
    outcome: RunOutcome
    finished_at: AwareDatetime | None
    error: str | None


class Worker(Record):
    """Who holds the lease.

    Attributes:
        holder: `HOST:PID:START`.
        heartbeat_at: Its last sign of life.
        is_dead: It is a process of this host that ended; of other hosts nobody can tell.
    """

    holder: str
    heartbeat_at: AwareDatetime | None
    is_dead: bool


class Status(Record):
    """What `perennial status --json` prints.

    Attributes:
        champion: None before the first push.
        prequential: Where the champions' scores on spans that nothing had trained on yet stand; None before the first.
        open_runs: Runs without an outcome; more than one only where runs of an older release were left.
        worker: None where nobody holds the lease.
        requests: What people asked for and nobody has taken up.
        last_run: None before the first.
        alerts: What people should look into, e.g. that a span is overdue.
    """

    champion: ChampionStatus | None = None
    spans: tuple[SpanStatus, ...] = ()
    prequential: PrequentialSummary | None = None
    open_runs: tuple[OpenRun, ...] = ()
    worker: Worker | None = None
    requests: tuple[TriggerRequest, ...] = ()
    last_run: LastRun | None = None
    alerts: tuple[str, ...] = ()


def read_status(ledger: Ledger, config: Config, *, now: datetime) -> Status:
    """Return how the pipeline stands.

    Args:
        ledger: Its ledger; only read.
        config: Its config.
        now: Wall time in UTC, which tells what is overdue.
    """
    records, runs = ledger.spans(), ledger.runs(limit=_MAX_RUNS)
    history = prequential_history(records)
    finished = [run for run in runs if run.outcome is not None]
    view = read_view(ledger, config, Findings(), ProcessState(now=now))
    return Status(
        champion=_champion(ledger),
        spans=_spans(records, runs),
        prequential=summarise(history, config.gate.prequential, HEADLINE_METRIC[config.label.task])
        if history
        else None,
        open_runs=tuple(_open_run(run, config) for run in runs if run.outcome is None),
        worker=_worker(ledger),
        requests=tuple(ledger.waiting_requests()),
        last_run=_last_run(finished),
        alerts=tick(config.triggers, view, now).alerts,
    )


def _champion(ledger: Ledger) -> ChampionStatus | None:
    champion = ledger.champion()
    if champion is None:
        return None
    # A ledger of an older release has a champion and no record of its moves.
    last = next((move for move in reversed(ledger.champion_moves()) if move.version == champion.version), None)
    return ChampionStatus(
        version=champion.version,
        span=champion.span,
        since=champion.moved_at,
        previous=last.previous if last else None,
        moved_by=last.by if last else None,
        reason=last.reason if last else None,
    )


def _spans(records: Sequence[SpanRecord], runs: Sequence[RunRecord]) -> tuple[SpanStatus, ...]:
    last_runs = {(run.span, run.version): run for run in runs}
    spans = []
    for record in records:
        last = last_runs.get((record.span, record.version))
        failure = last.error if record.state == "arrived" and last and last.outcome == "failed" else None
        fields = record.model_dump(include=set(SpanStatus.model_fields) - {"examples", "reason"})
        spans.append(SpanStatus(examples=record.num_examples, reason=failure or record.reason, **fields))
    return tuple(spans)


def _open_run(run: RunRecord, config: Config) -> OpenRun:
    fields = run.model_dump(include=set(OpenRun.model_fields) - {"max_attempts"})
    return OpenRun(max_attempts=config.retries.max_attempts, **fields)


def _worker(ledger: Ledger) -> Worker | None:
    lease = ledger.lease()
    if lease is None or lease.holder is None:
        return None
    return Worker(holder=lease.holder, heartbeat_at=lease.heartbeat_at, is_dead=is_dead(lease.holder))


def _last_run(finished: Sequence[RunRecord]) -> LastRun | None:
    # By its end, since a run that was resumed may have started before others.
    ended = sorted(finished, key=lambda run: run.finished_at or run.started_at)
    return LastRun(**ended[-1].model_dump(include=set(LastRun.model_fields))) if ended else None
