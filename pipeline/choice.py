"""Which span runs: the one that a person asks for, else what the first policy that fires selects.

In here: the choice among due spans, and whether it is trained on. Not in here: what must be over before it starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import get_args

from pipeline.due import Look, decay, due_times
from pipeline.policies import DecayTrigger, Policy
from pipeline.ticks import Refusal
from schemas.ledger_records import SpanRecord, TriggerRequest
from schemas.training import Initialisation

# What a person may ask for: nothing has been trained on it.
_UNTRAINED = frozenset({"arrived", "quarantined", "skipped"})


@dataclass(frozen=True)
class Choice:
    """What a policy would run, and the waiting spans that it passes over for that."""

    policy: Policy
    record: SpanRecord
    passed_over: tuple[SpanRecord, ...] = ()


def first_request(look: Look) -> tuple[tuple[Refusal, ...], TriggerRequest | None, Choice | None]:
    """Return the first request that can be followed, and those before it that cannot."""
    refusals: list[Refusal] = []
    for request in look.view.requests:
        answer = _requested(look, request)
        if isinstance(answer, Choice):
            return tuple(refusals), request, answer
        refusals.append(Refusal(request_id=request.id, reason=answer))
    return tuple(refusals), None, None


def _requested(look: Look, request: TriggerRequest) -> Choice | str:
    policy = next((policy for policy in look.options.policies if policy.trigger.kind == "manual"), None)
    if policy is None:
        return "No policy has trigger 'manual'. Add one to triggers.policies, and ask again."
    if request.initialisation not in (None, *get_args(Initialisation)):
        known = ", ".join(get_args(Initialisation))
        return f"Initialisation {request.initialisation!r} is unknown. Expected one of {known}. Ask again with one."
    if policy.select == "done":
        return _selected(look, policy, retrainable(look)) or "No span has finished since the last full training."
    if request.span is None:
        return _selected(look, policy, look.waiting) or "No span waits. Ask again when one has come."
    record = look.view.requested.get(request.span)
    if record is None:
        return f"Span {request.span} has not come. Ask again when it has."
    if record.state not in _UNTRAINED:
        return (
            f"Span {record.span} version {record.version} is {record.state} already, and nothing is trained on twice."
        )
    return Choice(policy, record)


def choose(look: Look) -> Choice | None:
    """Return what the first policy that fires would run, whatever else has to be waited for."""
    for policy in look.options.policies:
        records = retrainable(look) if policy.select == "done" else look.waiting
        due = [record for at, record in due_times(look, policy, records) if at <= look.now]
        choice = _selected(look, policy, due)
        if choice is not None:
            return choice
    return None


def _selected(look: Look, policy: Policy, due: Sequence[SpanRecord]) -> Choice | None:
    if look.view.cold_spans is not None and policy.select == "next" and policy.action == "train":
        # The first model learns from history: from a window of spans that are due without one between that is not.
        numbers = {record.span for record in due}
        due = list(takewhile(lambda record: record.span in numbers, look.waiting))[: look.view.cold_spans]
        return Choice(policy, due[-1]) if due else None
    if not due:
        return None
    if policy.select == "latest":
        return Choice(policy, due[-1], passed_over=tuple(due[:-1]))
    return Choice(policy, due[0])


def retrainable(look: Look) -> list[SpanRecord]:
    """Return the newest span that a cycle was content with, unless a model was trained in full on it already."""
    view = look.view
    for record in view.finished:
        was_scored = record.state == "skipped" and record.drift_verdict is not None
        if was_scored or record.state in ("trained", "pushed", "rejected"):
            is_new = view.last_full_training_span is None or view.last_full_training_span < record.span
            return [record] if is_new else []
    return []


def reason_to_score(look: Look, choice: Choice) -> str:
    """Return why a span need not be trained on; empty where it is to be."""
    adaptive, view = look.options.adaptive, look.view
    if choice.policy.action != "train" or adaptive.stable_spans is None or view.cold_spans is not None:
        return ""
    if choice.record.version > 1:  # what models have learned from its earlier version is not mended by a score
        return ""
    judged = [record for record in view.finished if record.drift_verdict is not None]
    newest = judged[: adaptive.stable_spans]
    num_skipped = sum(1 for _ in takewhile(lambda record: record.state == "skipped", judged))
    trigger = DecayTrigger(kind="decay", max_decay=adaptive.max_decay, num_spans=1)
    is_stable = len(newest) == adaptive.stable_spans and all(record.drift_verdict == "pass" for record in newest)
    if not is_stable or num_skipped >= adaptive.max_skips or decay(view, trigger).has_decayed:
        return ""
    return f"It is scored and not trained on, since the last {len(newest)} spans passed without a finding."
