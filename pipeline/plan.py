"""What a cycle will read, and why: a pure function of what is known before it starts. Nothing is read or written."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from core.digests import digest_of_json
from core.errors import DataError
from pipeline.config import WindowOptions
from pipeline.starts import in_words, reason_for_cold, reason_for_refresh
from schemas.base import Record
from schemas.ledger_records import ChampionRecord, ModelRecord, SpanRecord
from schemas.scores import PrequentialScore, prequential_history
from schemas.spans import SpanRef
from schemas.training import Initialisation, ModelShape

# States in which a span needs nothing more. A blocked span waits for a corrected version, which has its own digest.
# A span on its way through a cycle is not asked about: an open run is finished or given up before anything is planned.
DONE_STATES = frozenset({"trained", "pushed", "rejected", "blocked", "quarantined", "skipped", "superseded"})
# Data that nothing may be trained on.
UNUSABLE_STATES = frozenset({"blocked", "quarantined", "superseded"})


class RunPlan(Record):
    """Everything that one cycle reads, named before it starts.

    Attributes:
        run_id: Name of the run, of its folder and of its ML Metadata context.
        action: `train` makes a candidate; `score` validates the span and scores the champion on it, and no more.
        window: Spans that the candidate trains on, oldest first; the last is `span`.
        initialisation: How the Trainer starts; `auto` lets it find out. All but `cold` have a base model.
        champion: The model that serves, which the candidate must beat.
        base: The model that a warm start starts from: the champion, or the last clean ancestor in a repair.
        candidate_run_id: The run that trained the candidate, where this one only judges it again because the champion
            moved meanwhile; None: this run trains it.
        candidate_uri: Model artifact of that candidate.
        line_length: Warm starts since the line's cold start, this one included; 0 for a cold start.
        transform_graph_uri: The frozen transform graph; None: analyse a new one from `analysis_window`.
        analysis_window: Spans that a new transform graph is analysed on, oldest first; empty with a frozen one.
        previous_statistics_uri: Statistics of the last usable span before this one.
        reference_statistics_uri: Statistics of the data that the champion's line was cold-started on.
        replay_uri: The replay buffer as the last cycle left it.
        prequential_history: Scores on earlier spans of the champion's line, oldest first. Not of the line before: a
            cold start is the answer to decay, and must not inherit it.
        is_prequential: The champion is scored on this span first; false where it has seen a version of it.
        is_shadow: This is a full retrain beside the champion; the span itself is done already.
        push_version: The version that a blessed candidate will get.
        why: One sentence per decision.
    """

    run_id: str
    trigger: str
    action: Literal["train", "score"] = "train"
    span: SpanRef
    window: tuple[SpanRef, ...]
    initialisation: Initialisation
    champion: ChampionRecord | None
    base: ModelRecord | None
    candidate_run_id: str | None = None
    candidate_uri: str | None = None
    line_length: int
    transform_graph_uri: str | None
    analysis_window: tuple[SpanRef, ...]
    previous_statistics_uri: str | None
    reference_statistics_uri: str | None
    replay_uri: str | None
    prequential_history: tuple[PrequentialScore, ...]
    is_prequential: bool
    is_shadow: bool
    push_version: int
    why: tuple[str, ...]

    @property
    def base_model_uri(self) -> str | None:
        """Model artifact of the base model."""
        return self.base.model_uri if self.base else None

    def numbered(self, push_version: int) -> "RunPlan":
        """Return the plan with the version reserved for it, which also makes the run's name unique on any clock."""
        return self.model_copy(update={"push_version": push_version, "run_id": f"{self.run_id}-{push_version}"})

    @property
    def checkpoint_name(self) -> str:
        """Folder of the Trainer's checkpoints: the same for every attempt."""
        return self.digest[:16]

    @property
    def digest(self) -> str:
        """Digest of what the cycle reads; two attempts at the same work have the same one."""
        return digest_of_json(self.model_dump(mode="json", exclude={"run_id", "trigger", "push_version", "why"}))


class Skip(Record):
    """No run is due, and why."""

    reason: str
    span: SpanRef | None = None


class Knowledge(Record):
    """What the plan may rest on, read once from spans folder and ledger.

    Attributes:
        spans: Latest usable version of every span on disk, oldest span first.
        unusable: Why a span's folder cannot be used, by span.
        records: The ledger's rows.
        champion: The model that serves.
        shape: Features, label and model options of the config, which decide whether weights can be carried over.
        line_start_span: Span of the cold start that the champion descends from; None without a champion.
        last_full_training_span: Newest span of the last cold start or shadow model; None before the first.
    """

    spans: tuple[SpanRef, ...]
    unusable: dict[int, str] = {}
    records: tuple[SpanRecord, ...]
    champion: ChampionRecord | None
    shape: ModelShape
    line_start_span: int | None = None
    last_full_training_span: int | None = None

    @cached_property
    def _by_ref(self) -> dict[SpanRef, SpanRecord]:
        return {record.ref: record for record in self.records}

    def record(self, ref: SpanRef) -> SpanRecord | None:
        """Return the ledger's row of exactly this content."""
        return self._by_ref.get(ref)

    def is_done(self, ref: SpanRef) -> bool:
        """Tell whether this content was consumed or refused before."""
        record = self.record(ref)
        return record is not None and record.state in DONE_STATES


def next_span(knowledge: Knowledge, window: WindowOptions, *, deferred: Collection[SpanRef] = ()) -> SpanRef | Skip:
    """Choose the span that `run --next` works on.

    Spans in `deferred` wait for the cycle of another one, which they will be part of.

    With a champion it is the oldest span that is not done. Without one it is the last span of the first full
    window, so that the first model learns from history; fewer spans than that are used as they are.

    Raises:
        DataError: a span before it is on disk but cannot be used.
    """
    pending = [ref for ref in knowledge.spans if not knowledge.is_done(ref) and ref not in deferred]
    if not pending and deferred:
        numbers = ", ".join(str(span) for span in sorted(ref.span for ref in deferred))
        return Skip(reason=f"The correction of span {numbers} waits for the next cycle of another span.")
    if not pending:
        return Skip(reason="All spans are done; nothing new has arrived.")
    history = 1 if knowledge.champion is not None else min(window.cold_spans, len(pending))
    chosen = pending[history - 1]
    # Going past a broken span would drop it silently.
    for span in sorted(knowledge.unusable):
        if span <= chosen.span:
            raise DataError(knowledge.unusable[span])
    return chosen


def planned_span(knowledge: Knowledge, span: int) -> SpanRef | Skip:
    """Return the latest version of `span`, or say that it is done.

    Raises:
        DataError: no such span is on disk, or it cannot be used.
    """
    if span in knowledge.unusable:
        raise DataError(knowledge.unusable[span])
    ref = next((ref for ref in knowledge.spans if ref.span == span), None)
    if ref is None:
        near = min((ref.span for ref in knowledge.spans), key=lambda known: abs(known - span), default=None)
        such_as = "" if near is None else f", such as {near}"
        raise DataError(
            f"Span {span} does not exist. Expected one that was ingested{such_as}; received span={span}. "
            "Ingest it first, or name another."
        )
    record = knowledge.record(ref)
    if record is not None and record.state in DONE_STATES:
        return Skip(reason=f"Span {span} version {ref.version} is already done: {record.state}.", span=ref)
    return ref


class RepairRequest(Record):
    """What a repair changes in a plan.

    Attributes:
        base: Model to start from instead of the champion; None: the champion.
        window: Spans to train on instead of the policy's; None: the policy's.
        corrections: Corrected spans that join the window.
        replay_uri: With a `base`, the replay buffer of its time; None: start an empty one.
        why: One sentence.
    """

    base: ModelRecord | None = None
    window: tuple[SpanRef, ...] | None = None
    corrections: tuple[SpanRef, ...] = ()
    replay_uri: str | None = None
    why: str


@dataclass(frozen=True)
class Request:
    """What is asked of a plan, beside what is known.

    Attributes:
        span: The span to work on.
        trigger: What asked for the run, e.g. `manual`, `next`, `drift` or `shadow`.
        now: Time of the decision; names the run.
        push_version: Version reserved for a blessed candidate; `RunPlan.numbered` fills it in later.
        action: Whether a candidate is trained.
        initialisation: How to start where there is a base model; None: as the config says.
        force_cold: Why this run must start cold whatever the policy says, e.g. drift; None: the policy decides.
        is_shadow: Retrain in full beside the champion.
        repair: What a corrected span asks for; None: the span is planned as any other.
    """

    span: SpanRef
    trigger: str
    now: datetime
    push_version: int = 0
    action: Literal["train", "score"] = "train"
    initialisation: Initialisation | None = None
    force_cold: str | None = None
    is_shadow: bool = False
    repair: "RepairRequest | None" = None


def plan_run(
    knowledge: Knowledge, request: Request, window: WindowOptions, *, initialisation: Initialisation = "warm"
) -> RunPlan:
    """Decide what the cycle of a span reads.

    Args:
        knowledge: What spans folder and ledger say now.
        request: What is asked.
        window: The policy on windows and refreshes.
        initialisation: How the config wants a run to start that has a base model.
    """
    ref, champion, repair = request.span, knowledge.champion, request.repair
    initialisation = request.initialisation or initialisation
    parent: ModelRecord | None = (repair.base if repair else None) or champion
    refresh_because = reason_for_refresh(parent, knowledge.shape, ref.span, window) if parent else None
    cold_because = request.force_cold or reason_for_cold(
        parent, knowledge.shape, initialisation, is_refresh_due=refresh_because is not None
    )
    base = parent if cold_because is None else None
    num_cold_spans = window.shadow_spans if request.is_shadow else window.cold_spans
    chosen = _window(knowledge, ref, num_cold_spans if base is None else window.warm_spans)
    if repair is not None:
        chosen = repair.window or _in_order({*chosen, *repair.corrections}, last=ref)
    if base is None:
        analysed, start = chosen, f"Cold start with a new transform graph: {cold_because}"
    elif refresh_because is not None:
        analysed = _window(knowledge, ref, window.cold_spans)
        start = f"{in_words(initialisation)} from {_name(base, champion)}, with a refreshed transform graph: "
        start += f"{refresh_because}"
    else:
        analysed = ()
        start = f"{in_words(initialisation)} from {_name(base, champion)}, with its transform graph."
    is_other_line = repair is not None and repair.base is not None
    reference = parent if is_other_line else champion
    return RunPlan(
        run_id=_run_id(request),
        trigger=request.trigger,
        action=request.action,
        span=ref,
        window=chosen,
        initialisation="cold" if base is None else initialisation,
        champion=champion,
        base=_as_model(base),
        line_length=base.line_length + 1 if base else 0,
        transform_graph_uri=base.transform_graph_uri if base and not analysed else None,
        analysis_window=analysed,
        previous_statistics_uri=_previous_statistics(knowledge, ref),
        reference_statistics_uri=reference.statistics_uri if reference else None,
        replay_uri=repair.replay_uri if repair and is_other_line else _replay(knowledge),
        prequential_history=_prequential_history(knowledge, ref),
        is_prequential=champion is not None and not request.is_shadow and not _was_seen(knowledge, ref),
        is_shadow=request.is_shadow,
        push_version=request.push_version,
        why=_why(request, start, chosen),
    )


def plan_judgement(plan: RunPlan, request: Request, *, champion: ChampionRecord | None, candidate_uri: str) -> RunPlan:
    """Decide how the candidate of a run is judged again, because the champion moved while it was trained.

    Args:
        plan: The plan of the run that trained it.
        request: Span, trigger, time and version of the new run.
        champion: The model that serves now.
        candidate_uri: Model artifact of the candidate.
    """
    was = f"version {plan.champion.version}" if plan.champion else "none"
    now = f"version {champion.version}" if champion else "none"
    return plan.model_copy(
        update={
            "run_id": _run_id(request),
            "trigger": request.trigger,
            "champion": champion,
            "candidate_run_id": plan.candidate_run_id or plan.run_id,
            "candidate_uri": candidate_uri,
            "push_version": request.push_version,
            "why": (f"The champion was {was} when this candidate was judged and is {now}: it is judged again.",),
        }
    )


def _why(request: Request, start: str, window: tuple[SpanRef, ...]) -> tuple[str, ...]:
    repair = (request.repair.why,) if request.repair else ()
    if request.action == "score":
        return (*repair, "The span is validated and the champion scored on it; nothing is trained.")
    return (*repair, start, f"Training window: span {', '.join(str(span.span) for span in window)}.")


def _run_id(request: Request) -> str:
    return f"{request.now:%Y%m%dT%H%M%S}-span-{request.span.span:06d}-v{request.span.version}"


def _in_order(refs: set[SpanRef], *, last: SpanRef) -> tuple[SpanRef, ...]:
    """Return spans oldest first, with the cycle's own at the end."""
    return (*sorted(refs - {last}, key=lambda ref: (ref.span, ref.version)), last)


def _name(base: ModelRecord, champion: ChampionRecord | None) -> str:
    is_champion = champion is not None and base.version == champion.version
    return f"{'champion ' if is_champion else ''}version {base.version}"


def _as_model(base: ModelRecord | None) -> ModelRecord | None:
    """Return a base model without since when it serves: that is no part of what a run reads."""
    return ModelRecord.model_validate(base.model_dump(include=set(ModelRecord.model_fields))) if base else None


def shadow_is_due(knowledge: Knowledge, span: int, window: WindowOptions) -> bool:
    """Tell whether a shadow model should be trained after the cycle of `span`."""
    last = knowledge.last_full_training_span
    return window.shadow_every_spans is not None and last is not None and span - last >= window.shadow_every_spans


def _window(knowledge: Knowledge, ref: SpanRef, num_spans: int) -> tuple[SpanRef, ...]:
    """Return the newest `num_spans` usable spans up to `ref`. A blocked or quarantined span is never trained on."""
    blocked = {(r.span, r.version, r.digest) for r in knowledge.records if r.state in UNUSABLE_STATES}
    usable = [s for s in knowledge.spans if s.span < ref.span and (s.span, s.version, s.digest) not in blocked]
    return (*usable[len(usable) - num_spans + 1 :], ref) if num_spans > 1 else (ref,)


def _previous_statistics(knowledge: Knowledge, ref: SpanRef) -> str | None:
    earlier = [r for r in knowledge.records if r.span < ref.span and r.statistics_uri and r.state != "blocked"]
    return max(earlier, key=lambda r: (r.span, r.version)).statistics_uri if earlier else None


def _replay(knowledge: Knowledge) -> str | None:
    """Return the replay buffer that the last cycle wrote; spans may have been run out of order."""
    written = [record for record in knowledge.records if record.replay_uri]
    return max(written, key=lambda r: (r.updated_at, r.span, r.version)).replay_uri if written else None


def _prequential_history(knowledge: Knowledge, ref: SpanRef) -> tuple[PrequentialScore, ...]:
    first = -1 if knowledge.line_start_span is None else knowledge.line_start_span
    return prequential_history(record for record in knowledge.records if first < record.span < ref.span)


def _was_seen(knowledge: Knowledge, ref: SpanRef) -> bool:
    """Tell whether a model may have learned from another version of this span: its score would flatter."""
    return any(r.span == ref.span and r.state in ("pushed", "trained") for r in knowledge.records)
