"""Since when, or from when on, a span is due: cron times, mature labels, drift, decay, and gaps in the span numbers.

In here: time and conditions, span by span. Not in here: which of the due spans runs, and what else must be over first.

Wall clocks jump. A time that lies further ahead than could be waited for was stamped by a wrong clock, and what it
was to be waited for counts as over; what is not much ahead is taken as it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from monitoring.prequential import summarise
from pipeline.policies import (
    CronTrigger,
    DecayTrigger,
    DriftTrigger,
    LabelsTrigger,
    ManualTrigger,
    Policy,
    TriggerOptions,
)
from pipeline.ticks import TriggerView
from schemas.ledger_records import SpanRecord
from schemas.scores import PrequentialOptions, PrequentialSummary, prequential_history
from schemas.verdicts import Verdict

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
# How far ahead a stamp may lie and still be taken as it is, where no duration of the config says it.
_CREDIBLE_SECONDS = 86400.0


@dataclass(frozen=True)
class Look:
    """One look at what is known.

    Attributes:
        waiting: Spans that wait and do not run, oldest first.
        fires: When each cron policy was last accepted, this look included.
        held: For each waiting span behind a gap in the numbers, until when it is held back; that may be over.
    """

    options: TriggerOptions
    view: TriggerView
    now: datetime
    waiting: tuple[SpanRecord, ...]
    fires: Mapping[str, datetime]
    held: Mapping[int, datetime]


def credible(moment: datetime, now: datetime, seconds: float = _CREDIBLE_SECONDS) -> datetime:
    """Return `moment`, or long ago where it lies more than `seconds` ahead, as after a clock was set back.

    Example:
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> credible(noon + timedelta(seconds=60), noon, 60).hour, credible(noon + timedelta(seconds=61), noon, 60).year
        (12, 1)
    """
    return moment if moment <= now + timedelta(seconds=seconds) else _LONG_AGO


def last_fire(trigger: CronTrigger, now: datetime) -> datetime:
    """Return the latest time up to `now` at which the expression fires, in UTC.

    In the hour that the end of daylight saving repeats, the iterator forgets the times of its first pass.
    """
    start = (now + timedelta(seconds=1)).replace(microsecond=0).astimezone(ZoneInfo(trigger.timezone))
    last = next(CronSim(trigger.expression, start, reverse=True)).astimezone(UTC)
    following = next_fire(trigger, last)
    return following if following <= now else last


def next_fire(trigger: CronTrigger, now: datetime) -> datetime:
    """Return the first time after `now` at which the expression fires, in UTC.

    In the hour that the end of daylight saving repeats, the iterator may begin with a time of its first pass.
    """
    times = CronSim(trigger.expression, now.astimezone(ZoneInfo(trigger.timezone)))
    return next(time for time in (time.astimezone(UTC) for time in times) if time > now)


def held_until(
    view: TriggerView, waiting: Iterable[SpanRecord], grace_seconds: float, now: datetime
) -> dict[int, datetime]:
    """Return until when spans wait for the numbers that are missing before them, by span; none where nothing is."""
    held: dict[int, datetime] = {}
    latest: datetime | None = None
    for record in waiting:
        if view.predecessors.get(record.span, record.span - 1) < record.span - 1:
            arrived = credible(arrival(record), now, grace_seconds)
            end = arrived + timedelta(seconds=grace_seconds)
            latest = end if latest is None else max(latest, end)
        if latest is not None:
            held[record.span] = latest
    return held


def due_times(look: Look, policy: Policy, records: Iterable[SpanRecord]) -> list[tuple[datetime, SpanRecord]]:
    """Return since when (or from when on) the policy fires for each record; no time makes the others due."""
    if not _is_met(look, policy):
        return []
    times = ((_due_at(look, policy, record), record) for record in records)
    return [(max(at, look.held.get(record.span, at)), record) for at, record in times if at is not None]


def reason(look: Look, policy: Policy, record: SpanRecord) -> str:
    """Return why the policy fires for the record, as the second half of a sentence."""
    match policy.trigger:
        case CronTrigger():
            return f"it fired at {word(look.fires[policy.name])}"
        case DriftTrigger():
            newest = newest_with_verdict(look.view)
            return f"span {newest.span} had drift verdict {newest.drift_verdict}" if newest else "of drift"
        case DecayTrigger():
            return decay(look.view, policy.trigger).sentence.rstrip(".")
        case LabelsTrigger():
            return (
                f"the labels of span {record.span} are complete since {word(_mature_at(look, policy.trigger, record))}"
            )
        case _:
            return f"span {record.span} came at {word(arrival(record))}"


def decay(view: TriggerView, trigger: DecayTrigger) -> PrequentialSummary:
    """Return whether the champion's scores have decayed since its line began, and the sentence that says so."""
    first = -1 if view.line_start_span is None else view.line_start_span
    history = prequential_history(record for record in view.finished if record.span > first)
    options = PrequentialOptions(
        window_spans=trigger.window_spans, max_decay=trigger.max_decay, num_spans=trigger.num_spans
    )
    return summarise(history, options, view.metric)


def _is_met(look: Look, policy: Policy) -> bool:
    match policy.trigger:
        case ManualTrigger():
            return False
        case DriftTrigger(severity=severity):
            newest = newest_with_verdict(look.view)
            return newest is not None and _rank(newest.drift_verdict) >= _rank(severity)
        case DecayTrigger() as trigger:
            return decay(look.view, trigger).has_decayed
        case _:
            return True


def _due_at(look: Look, policy: Policy, record: SpanRecord) -> datetime | None:
    match policy.trigger:
        case CronTrigger():
            fire = look.fires.get(policy.name)
            is_due = fire is not None and credible(arrival(record), look.now) <= fire
            return min(fire, look.now) if fire is not None and is_due else None
        case LabelsTrigger() as trigger:
            return _mature_at(look, trigger, record)
        case _:
            return min(arrival(record), look.now)


def _mature_at(look: Look, trigger: LabelsTrigger, record: SpanRecord) -> datetime:
    complete = record.label_complete_time or record.event_time_max or credible(arrival(record), look.now)
    mature = complete + timedelta(seconds=trigger.maturity_seconds)
    return max(mature, min(arrival(record), look.now))


def arrival(record: SpanRecord) -> datetime:
    """Return when the record was registered."""
    return record.arrived_at or record.updated_at


def newest_with_verdict(view: TriggerView) -> SpanRecord | None:
    """Return the newest finished span that was held against drift bounds; not every one was."""
    return next((record for record in view.finished if record.drift_verdict is not None), None)


def _rank(verdict: str | None) -> int:
    return Verdict[(verdict or "pass").upper()]


def word(moment: datetime) -> str:
    """Return a time as sentences have it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
