"""What a backfill would do with each span of a range, and why. Pure: what is known comes in, nothing is read."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pipeline.config import Config
from pipeline.plan import Knowledge, Request, RunPlan, plan_run
from pipeline.policies import Repair as RepairKind
from pipeline.promotion import moves_backwards, newest_span
from pipeline.repair import ChosenRepair
from schemas.base import Record
from schemas.ledger_records import ChampionRecord, SpanRecord, SpanState
from schemas.spans import SpanRef
from schemas.training import Initialisation

TRIGGER = "backfill"
# Ends that a person may want to try again. What was learned stays learned, and what was superseded is out of date.
REOPENED_STATES: frozenset[SpanState] = frozenset({"rejected", "blocked", "quarantined", "skipped"})

# `run`: a cycle of its own. `reopen`: the same, after its state is set back. `skip`: a correction that is ignored with
# a note. `wait`: a correction that joins the next cycle. `leave`: nothing.
Action = Literal["run", "reopen", "skip", "wait", "leave"]
_REPAIRS: dict[RepairKind, Action] = {"ignore": "skip", "replay": "wait"}


class BackfillStep(Record):
    """What would be done with one span of the range, and why.

    Attributes:
        ref: Its newest version; None where there is none.
        state: What the ledger says of that version now; None: it does not know it yet.
        window: Spans that the cycle would train on; the last is the span itself.
        start: How it would start; None without a cycle.
        base: What it would start from, in words; None for a cold start.
    """

    span: int
    ref: SpanRef | None
    state: SpanState | None
    action: Action
    why: str
    window: tuple[int, ...] = ()
    start: Initialisation | None = None
    base: str | None = None

    @property
    def has_cycle(self) -> bool:
        """Whether a cycle would run."""
        return self.start is not None

    @property
    def changes_something(self) -> bool:
        """Whether anything would be done now."""
        return self.action in ("run", "reopen", "skip")


class FoundSpan(Record):
    """One span of the range as it is now.

    Attributes:
        ref: Its newest version; None where there is none.
        record: The ledger's row of it; None: not registered yet.
        unusable: Why its files cannot be used; None where they can.
        repair: What it is due for as a correction; None where it is none.
    """

    span: int
    ref: SpanRef | None = None
    record: SpanRecord | None = None
    unusable: str | None = None
    repair: ChosenRepair | None = None


@dataclass(frozen=True)
class Findings:
    """All that a backfill's plan rests on.

    Attributes:
        spans: The spans of the range, in order.
        knowledge: What the plans of cycles rest on.
        learned: Versions of spans that the champion's line has trained on, by span and version.
    """

    spans: tuple[FoundSpan, ...]
    knowledge: Knowledge
    learned: frozenset[tuple[int, int]]


def plan_backfill(findings: Findings, config: Config, *, now: datetime, is_again: bool) -> tuple[BackfillStep, ...]:
    """Say what would be done with each span, as if the gate blessed every candidate.

    Args:
        findings: What is known now.
        config: The pipeline's config.
        now: Time of the decision.
        is_again: Whether spans that were refused or skipped are tried again.
    """
    knowledge, steps = findings.knowledge, []
    makers: dict[str, int] = {}
    for found in findings.spans:
        action, why = _decide(found, findings.learned, is_again=is_again)
        state = found.record.state if found.record else None
        step = BackfillStep(span=found.span, ref=found.ref, state=state, action=action, why=why)
        is_run = action in ("run", "reopen") and (found.repair is None or found.repair.has_own_cycle)
        if is_run and found.ref is not None:
            plan = _plan(found.ref, found.repair, knowledge, config, now)
            made = _model_of(plan, knowledge, now)
            backwards = moves_backwards(made, knowledge.champion)
            step = _with_plan(step, plan, makers, backwards)
            if backwards is None:
                makers[made.model_uri] = found.span
                knowledge = knowledge.model_copy(update={"champion": made})
        steps.append(step)
    return tuple(steps)


def _decide(found: FoundSpan, learned: frozenset[tuple[int, int]], *, is_again: bool) -> tuple[Action, str]:
    if found.ref is None:
        return "leave", found.unusable or "No such span has arrived."
    if (found.span, found.ref.version) in learned:
        return "leave", "The champion, or a model that it descends from, has learned from it."
    state = found.record.state if found.record else "arrived"
    if state in REOPENED_STATES and not is_again:
        return "leave", f"It is {state}; --again opens it."
    if state not in REOPENED_STATES and state != "arrived":
        return "leave", f"It is {state}."
    if found.unusable is not None:
        return "leave", found.unusable
    if state != "arrived":
        return _decide_again(state, found.repair)
    if found.repair is None:
        return "run", "It waits." if found.record else "It has just arrived."
    return _REPAIRS.get(found.repair.kind, "run"), found.repair.why


def _decide_again(state: SpanState, repair: ChosenRepair | None) -> tuple[Action, str]:
    if repair is None:
        return "reopen", f"It is {state}, and is opened again."
    if repair.kind == "ignore":
        return "leave", f"It is {state}. {repair.why}"
    return "reopen", f"It is {state}, and is opened again. {repair.why}"


def _plan(ref: SpanRef, chosen: ChosenRepair | None, knowledge: Knowledge, config: Config, now: datetime) -> RunPlan:
    request = Request(span=ref, trigger=TRIGGER, now=now)
    if chosen is not None:
        request = replace(request, repair=chosen.request, force_cold=chosen.force_cold)
    return plan_run(knowledge, request, config.window, initialisation=config.training.initialisation)


def _with_plan(step: BackfillStep, plan: RunPlan, makers: dict[str, int], backwards: str | None) -> BackfillStep:
    base = None
    if plan.base is not None:
        maker = makers.get(plan.base.model_uri)
        base = f"version {plan.base.version}" if maker is None else f"the model of span {maker}, if it is pushed"
    return step.model_copy(
        update={
            "window": tuple(ref.span for ref in plan.window),
            "start": plan.initialisation,
            "base": base,
            "why": f"{step.why} {backwards}" if backwards else step.why,
        }
    )


def _model_of(plan: RunPlan, knowledge: Knowledge, now: datetime) -> ChampionRecord:
    """Return the model that a plan would make, as far as later plans look at it."""
    base = plan.base
    learned = [ref.span for ref in plan.window]
    return ChampionRecord(
        version=1 if knowledge.champion is None else knowledge.champion.version + 1,
        run_id=plan.run_id,
        span=plan.span.span,
        span_version=plan.span.version,
        model_uri=f"the model of run {plan.run_id}",
        model_digest="",
        training_digest="",
        transform_graph_uri=plan.transform_graph_uri or "",
        transform_span=base.transform_span if base and not plan.analysis_window else plan.span.span,
        statistics_uri="",
        model_shape=knowledge.shape.model_dump_json(),
        line_length=plan.line_length,
        newest_span=max(learned if base is None else [*learned, newest_span(base)]),
        base_version=base.version if base else None,
        pushed_at=now,
        moved_at=now,
    )
