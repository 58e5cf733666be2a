"""What a cycle will read, and why: a pure function of what is known before it starts. Nothing is read or written."""

from datetime import datetime
from typing import Literal

from core.digests import digest_of_json
from core.errors import DataError
from pipeline.config import WindowOptions
from schemas.base import Record
from schemas.ledger_records import ChampionRecord, SpanRecord
from schemas.spans import SpanRef

# States in which a span needs nothing more. A blocked span waits for a corrected version, which has its own digest.
DONE_STATES = frozenset({"trained", "pushed", "rejected", "blocked"})


class RunPlan(Record):
    """Everything that one cycle reads, named before it starts.

    Attributes:
        run_id: Name of the run, of its folder and of its ML Metadata context.
        window: Spans that the candidate trains on, oldest first; the last is `span`.
        base_model_uri: Model artifact that a warm start starts from.
        transform_graph_uri: The frozen transform graph; None: analyse a new one from the window ("refresh").
        previous_statistics_uri: Statistics of the last usable span before this one.
        reference_statistics_uri: Statistics of the data that the champion's line was cold-started on.
        push_version: The version that a blessed candidate will get.
        why: One sentence per decision.
    """

    run_id: str
    trigger: str
    span: SpanRef
    window: tuple[SpanRef, ...]
    initialisation: Literal["cold", "warm"]
    champion: ChampionRecord | None
    base_model_uri: str | None
    transform_graph_uri: str | None
    previous_statistics_uri: str | None
    reference_statistics_uri: str | None
    push_version: int
    why: tuple[str, ...]

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
        model_shape: Digest of features, label and model options; only models of the same shape share weights.
    """

    spans: tuple[SpanRef, ...]
    unusable: dict[int, str] = {}
    records: tuple[SpanRecord, ...]
    champion: ChampionRecord | None
    model_shape: str

    def record(self, ref: SpanRef) -> SpanRecord | None:
        """Return the ledger's row of exactly this content."""
        return next(
            (r for r in self.records if (r.span, r.version, r.digest) == (ref.span, ref.version, ref.digest)), None
        )

    def is_done(self, ref: SpanRef) -> bool:
        """Tell whether this content was consumed or refused before."""
        record = self.record(ref)
        return record is not None and record.state in DONE_STATES


def next_span(knowledge: Knowledge, window: WindowOptions) -> SpanRef | Skip:
    """Choose the span that `run --next` works on.

    With a champion it is the oldest span that is not done. Without one it is the last span of the first full
    window, so that the first model learns from history; fewer spans than that are used as they are.

    Raises:
        DataError: a span before it is on disk but cannot be used.
    """
    pending = [ref for ref in knowledge.spans if not knowledge.is_done(ref)]
    if not pending:
        return Skip(reason=f"All {len(knowledge.spans)} spans are done; nothing new has arrived.")
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
        known = [ref.span for ref in knowledge.spans]
        raise DataError(
            f"Span {span} does not exist. Expected one of {known[0]}..{known[-1]} ({len(known)} spans). "
            "Ingest it first, or name another."
        )
    record = knowledge.record(ref)
    if record is not None and record.state in DONE_STATES:
        return Skip(reason=f"Span {span} version {ref.version} is already done: {record.state}.", span=ref)
    return ref


def plan_run(
    knowledge: Knowledge,
    ref: SpanRef,
    window: WindowOptions,
    *,
    trigger: str,
    now: datetime,
    push_version: int,
    force_cold: str | None = None,
) -> RunPlan:
    """Decide what the cycle for `ref` reads.

    Args:
        knowledge: What spans folder and ledger say now.
        ref: The span to work on.
        window: The policy on windows and refreshes.
        trigger: What asked for the run, e.g. `manual` or `next`.
        now: Time of the decision; names the run.
        push_version: Version reserved for a blessed candidate.
        force_cold: Why this run must start cold whatever the policy says, e.g. drift; None: the policy decides.
    """
    champion = knowledge.champion
    cold_because = force_cold or _reason_for_cold(knowledge, ref, window)
    base = champion if cold_because is None else None
    chosen = _window(knowledge, ref, window.cold_spans if base is None else window.warm_spans)
    if base is None:
        start = f"Cold start with a new transform graph: {cold_because}"
    else:
        start = f"Warm start from champion version {base.version}, with its transform graph."
    return RunPlan(
        run_id=f"{now:%Y%m%dT%H%M%S%f}-span-{ref.span:06d}-v{ref.version}",
        trigger=trigger,
        span=ref,
        window=chosen,
        initialisation="cold" if base is None else "warm",
        champion=champion,
        base_model_uri=base.model_uri if base else None,
        transform_graph_uri=base.transform_graph_uri if base else None,
        previous_statistics_uri=_previous_statistics(knowledge, ref),
        reference_statistics_uri=champion.statistics_uri if champion else None,
        push_version=push_version,
        why=(start, f"Training window: span {', '.join(str(span.span) for span in chosen)}."),
    )


def _reason_for_cold(knowledge: Knowledge, ref: SpanRef, window: WindowOptions) -> str | None:
    """Return why weights cannot be carried over, or None if they can."""
    champion = knowledge.champion
    if champion is None:
        return "there is no champion yet."
    if champion.model_shape != knowledge.model_shape:
        return "features, label or model options of the config changed since the champion was trained."
    age_spans = ref.span - champion.transform_span
    if window.refresh_every_spans is not None and age_spans >= window.refresh_every_spans:
        # After a refresh tokens stand in other rows, so that trained rows would mean other tokens.
        return f"the transform graph is {age_spans} spans old and due for a refresh."
    return None


def _window(knowledge: Knowledge, ref: SpanRef, num_spans: int) -> tuple[SpanRef, ...]:
    """Return the newest `num_spans` usable spans up to `ref`. A blocked span is never trained on."""
    blocked = {(r.span, r.version, r.digest) for r in knowledge.records if r.state == "blocked"}
    usable = [s for s in knowledge.spans if s.span < ref.span and (s.span, s.version, s.digest) not in blocked]
    return (*usable[len(usable) - num_spans + 1 :], ref) if num_spans > 1 else (ref,)


def _previous_statistics(knowledge: Knowledge, ref: SpanRef) -> str | None:
    earlier = [r for r in knowledge.records if r.span < ref.span and r.statistics_uri and r.state != "blocked"]
    return max(earlier, key=lambda r: (r.span, r.version)).statistics_uri if earlier else None
