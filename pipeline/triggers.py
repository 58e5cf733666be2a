"""When to run what: a pure function of options, of what is known, and of the time. Nothing is read or written.

Requests of people come first, then the policies in their order. Exactly once follows from the ledger: a span is run
while it waits, and it waits until a cycle has finished with it.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from pipeline.choice import Choice, choose, first_request, reason_to_score, retrainable
from pipeline.due import Look, arrival, credible, due_times, held_until, last_fire, next_fire, reason, word
from pipeline.overdue import alerts, expected_at, missing
from pipeline.policies import Action, CronTrigger, Policy, TriggerOptions
from pipeline.ticks import Replacement, Running, SkippedSpan, Start, Tick, TriggerView
from schemas.ledger_records import SpanRecord, TriggerRequest


def tick(options: TriggerOptions, view: TriggerView, now: datetime) -> Tick:
    """Return what to do now, and when to look again.

    Args:
        options: The policies.
        view: What is known.
        now: Wall time, in UTC.
    """
    fired, dropped = _fires(options, view, now)
    waiting = sorted(view.waiting, key=lambda record: (record.span, record.version))
    look = Look(
        options=options,
        view=view,
        now=now,
        waiting=tuple(waiting),
        fires={**view.fired, **fired},
        held=held_until(view, waiting, options.missing_grace_seconds, now),
    )
    answer = _while_running(look, view.running) if view.running else _while_idle(look)
    return answer.model_copy(
        update={"fired": fired, "alerts": (*dropped, *alerts(look)), "next_wake": _next_wake(look)}
    )


def _fires(options: TriggerOptions, view: TriggerView, now: datetime) -> tuple[dict[str, datetime], list[str]]:
    """Return the cron policies that fire since the last look, and sentences about those that are dropped.

    However many of its times have passed, a policy fires once. Times are compared with those of the last look and the
    last fire, so that a clock that was set back does not make one fire twice for the same minute.
    """
    fired, dropped = {}, []
    for policy in options.policies:
        if not isinstance(policy.trigger, CronTrigger) or view.looked_at is None:
            continue
        at, last = last_fire(policy.trigger, now), view.fired.get(policy.name, view.looked_at)
        if at <= max(view.looked_at, credible(last, now)):
            continue
        because = _reason_to_drop(options, view, now)
        if because is None:
            fired[policy.name] = now
        else:
            dropped.append(f"Policy {policy.name!r} did not fire at {word(at)}, because {because}.")
    return fired, dropped


def _reason_to_drop(options: TriggerOptions, view: TriggerView, now: datetime) -> str | None:
    if options.catch_up == "none" and _was_away(options, view, now):
        return "no daemon ran, and catch_up is 'none'"
    if options.overlap == "skip" and view.running:
        return f"run {view.running.run_id} ran, and overlap is 'skip'"
    return None


def _was_away(options: TriggerOptions, view: TriggerView, now: datetime) -> bool:
    if not view.has_just_started or view.looked_at is None:
        return False
    return now - view.looked_at > timedelta(seconds=options.poll_seconds)


def _while_idle(look: Look) -> Tick:
    skips = tuple(_not_caught_up(look))
    if skips:
        return Tick(skips=skips, waits_for="Spans are skipped first.")
    refusals, request, choice = first_request(look)
    if choice is None:
        choice, blocked = choose(look), _blocked(look)
        if choice is None or blocked is not None:
            return Tick(refusals=refusals, waits_for=_waits_for(look, choice, blocked))
    if choice.passed_over:
        why = f"Policy {choice.policy.name!r} selects the latest span, and span {choice.record.span} has come."
        skips = tuple(SkippedSpan(span=record.ref, reason=why) for record in choice.passed_over)
        return Tick(refusals=refusals, skips=skips, waits_for="Spans are skipped first.")
    return Tick(refusals=refusals, start=_start(look, choice, request))


def _while_running(look: Look, running: Running) -> Tick:
    waits_for = f"Run {running.run_id} of span {running.span.span} is running."
    fresh = [] if look.options.overlap == "queue" or running.is_stopping else list(_fired_since(look, running))
    if look.options.overlap == "skip":
        skips = tuple(
            SkippedSpan(
                span=record.ref,
                reason=f"Policy {policy.name!r} fired for it while run {running.run_id} ran, and overlap is 'skip'.",
            )
            for policy, record in fresh
        )
        return Tick(skips=skips, waits_for=waits_for)
    newer = [(p, r) for p, r in fresh if (r.span, r.version) > (running.span.span, running.span.version)]
    if not newer or _over_budget(look):
        return Tick(waits_for=waits_for)
    policy, record = newer[-1]
    why = (
        f"Policy {policy.name!r} fired for span {record.span} while run {running.run_id} ran, and overlap is 'replace'."
    )
    is_kept = running.action == "shadow" or record.span == running.span.span
    return Tick(
        replace=Replacement(run_id=running.run_id, span=None if is_kept else running.span, reason=why),
        waits_for=f"Run {running.run_id} of span {running.span.span} is stopping.",
    )


def _fired_since(look: Look, running: Running) -> Iterator[tuple[Policy, SpanRecord]]:
    """Yield the waiting spans that became due while the cycle ran, each once, with the first policy that fires."""
    since: dict[int, tuple[Policy, SpanRecord]] = {}
    before: set[int] = set()
    for policy in look.options.policies:
        if policy.select == "done":
            continue
        for at, record in due_times(look, policy, look.waiting):
            if at <= running.started_at:
                before.add(record.span)
            elif at <= look.now:
                since.setdefault(record.span, (policy, record))
    yield from (fired for span, fired in sorted(since.items(), key=lambda item: item[0]) if span not in before)


def _not_caught_up(look: Look) -> Iterator[SkippedSpan]:
    """Yield what the catch-up policy leaves out of what came while no daemon ran."""
    looked_at, catch_up = look.view.looked_at, look.options.catch_up
    if looked_at is None or catch_up == "all" or not _was_away(look.options, look.view, look.now):
        return
    came = [record for record in look.waiting if arrival(record) > looked_at]
    for record in came if catch_up == "none" else came[:-1]:
        newer = "" if catch_up == "none" else f", and span {came[-1].span} came too"
        why = f"It came while no daemon ran, after {word(looked_at)}; catch_up is {catch_up!r}{newer}."
        yield SkippedSpan(span=record.ref, reason=why)


def _start(look: Look, choice: Choice, request: TriggerRequest | None) -> Start:
    policy, record = choice.policy, choice.record
    calm = "" if request else reason_to_score(look, choice)
    action: Action = "score" if calm else policy.action
    why = (
        f"Request {request.id} asks for it." if request else f"Policy {policy.name!r}: {reason(look, policy, record)}."
    )
    initialisation = (request.initialisation if request else None) or policy.initialisation
    return Start.model_validate(
        {
            "policy": policy.name,
            "span": record.ref,
            "action": action,
            "initialisation": initialisation if action == "train" else None,
            "why": f"{why} {calm}".strip(),
            "request_id": request.id if request else None,
        }
    )


def _blocked(look: Look) -> tuple[datetime, str] | None:
    """Return until when no policy may start a cycle, and why."""
    options, ended = look.options, look.view.last_run_finished_at
    if _over_budget(look):
        midnight = look.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return midnight, (
            f"{look.view.compute_seconds_today:.0f} s of cycles ran today, and daily_compute_seconds is "
            f"{options.daily_compute_seconds:.0f}"
        )
    if ended is None:
        return None
    seconds = options.min_interval_seconds
    free = credible(ended, look.now, seconds) + timedelta(seconds=seconds)
    why = f"a cycle ended at {word(ended)}, and min_interval_seconds is {seconds:.0f}"
    return (free, why) if free > look.now else None


def _over_budget(look: Look) -> bool:
    budget = look.options.daily_compute_seconds
    return budget is not None and look.view.compute_seconds_today >= budget


def _waits_for(look: Look, choice: Choice | None, blocked: tuple[datetime, str] | None) -> str:
    if choice is not None and blocked is not None:
        return f"Span {choice.record.span} waits until {word(blocked[0])}: {blocked[1]}."
    if not look.waiting:
        return "No span waits."
    prospects = sorted(_prospects(look))
    return prospects[0][1] if prospects else f"Span {look.waiting[0].span} waits, and no policy fires for it."


def _prospects(look: Look) -> Iterator[tuple[datetime, str]]:
    """Yield the moments at which a policy fires by time alone, with a sentence."""
    for policy in look.options.policies:
        if isinstance(policy.trigger, CronTrigger):
            at = next_fire(policy.trigger, look.now)
            yield at, f"Policy {policy.name!r} fires next at {word(at)}."
        records = retrainable(look) if policy.select == "done" else look.waiting
        for at, record in due_times(look, policy, records):
            if at > look.now:
                held = f": {missing(look, record)}" if missing(look, record) else ""
                yield at, f"Span {record.span} is due at {word(at)} by policy {policy.name!r}{held}."


def _next_wake(look: Look) -> datetime | None:
    moments = [at for at, _ in _prospects(look)]
    blocked, expected = _blocked(look), expected_at(look)
    moments += [blocked[0]] if blocked and choose(look) else []
    moments += [expected] if expected else []
    return min((moment for moment in moments if moment > look.now), default=None)
