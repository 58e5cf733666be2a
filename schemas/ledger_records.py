"""What the ledger stores, as values that a plan can be computed from. How it is stored is in `ledger/`."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from schemas.base import Record
from schemas.spans import SpanRef

SpanState = Literal[
    "arrived",
    "validated",
    "trained",
    "evaluated",
    "pushed",
    "rejected",
    "blocked",
    "quarantined",
    "skipped",
    "superseded",
]
RunOutcome = Literal[
    "rejected", "pushed", "blocked", "cold_start", "scored", "champion_moved", "failed", "abandoned", "quarantined"
]

# Where a span may go from where. A cycle moves it from `arrived` to the right; a cycle that is given up puts it back.
# `trained` is also where a span ends that was learned from inside the window of another span's cycle.
TRANSITIONS: Mapping[SpanState, frozenset[SpanState]] = {
    "arrived": frozenset({"validated", "trained", "blocked", "quarantined", "skipped", "superseded"}),
    "validated": frozenset({"trained", "skipped", "quarantined", "superseded", "arrived"}),
    "trained": frozenset({"evaluated", "quarantined", "superseded", "arrived"}),
    "evaluated": frozenset({"pushed", "rejected", "quarantined", "superseded", "arrived"}),
    "pushed": frozenset(),
    "rejected": frozenset({"arrived", "trained"}),
    "blocked": frozenset({"arrived"}),
    "quarantined": frozenset({"arrived", "superseded"}),
    "skipped": frozenset({"arrived", "trained"}),
    "superseded": frozenset(),
}


class SpanArrival(Record):
    """A version of a span that was found on disk.

    Attributes:
        label_complete_time: When every label of it is known; None where the source cannot tell.
        event_time_max: Its latest event.
    """

    ref: SpanRef
    num_examples: int
    label_complete_time: AwareDatetime | None = None
    event_time_max: AwareDatetime | None = None


class Transition(Record):
    """One step of a span from state to state.

    Attributes:
        from_state: None for its arrival.
        run_id: The run that moved it; None where none did.
        token: Fencing token of the worker that moved it; None where no lease was needed.
    """

    span: int
    version: int
    digest: str
    from_state: SpanState | None
    to_state: SpanState
    run_id: str | None = None
    reason: str | None = None
    token: int | None = None
    at: AwareDatetime


class Lease(Record):
    """The right to run a pipeline's cycles, held by one worker at a time.

    Attributes:
        token: Grows by one with every worker that takes the lease; a write with an older one is refused.
        holder: Who: `HOST:PID:START`, where START tells a process from a later one of the same number. None: nobody.
        beats: Grows with every sign of life. A waiting worker takes over when it has not seen it change for
            `ttl_seconds` of its own monotonic clock, so that no two clocks are ever compared.
        ttl_seconds: How long a silent holder is waited for.
        heartbeat_at: Wall time of the last sign of life, for people to read.
    """

    token: int
    holder: str | None
    beats: int
    ttl_seconds: float
    heartbeat_at: AwareDatetime | None


class SpanOutcome(Record):
    """How one span ended.

    Attributes:
        state: `pushed`, `rejected` (the gate said no), `blocked` (its data said no), `skipped` (validated and scored,
            but nothing was due to be trained), or `trained` (learned from inside the window of another span's cycle).
        drift_verdict: Verdict of `DriftGate` by word.
        candidate_auc: AUC of the model this span trained, on its eval split.
        champion_auc: AUC of the champion of that time, on the same examples.
        pushed_version: Version that serving knows the model by.
        statistics_uri: Statistics of this span alone, which the next span's drift is measured against.
        replay_uri: The replay buffer after this span.
        prequential: The champion's metrics on the whole span before anything trained on it.
        seconds: Wall time of the run, in seconds.
        reason: One sentence for a reader of the status table.
    """

    state: SpanState
    run_id: str | None = None
    drift_verdict: str | None = None
    candidate_auc: float | None = None
    champion_auc: float | None = None
    pushed_version: int | None = None
    statistics_uri: str | None = None
    replay_uri: str | None = None
    prequential: dict[str, float] | None = None
    seconds: float | None = None
    reason: str | None = None


class SpanRecord(SpanOutcome):
    """One version of one span, and what became of it. State `arrived` means that no run has finished with it."""

    span: int
    version: int
    digest: str
    num_examples: int
    label_complete_time: AwareDatetime | None = None
    event_time_max: AwareDatetime | None = None
    arrived_at: AwareDatetime | None = None
    updated_at: AwareDatetime

    @property
    def ref(self) -> SpanRef:
        """The reference by which a plan names this version."""
        return SpanRef(span=self.span, version=self.version, digest=self.digest)


class RunStart(Record):
    """A cycle that is about to run.

    Attributes:
        run_id: Unique; TFX knows the pipeline run by the same name.
        trigger: What asked for the run, e.g. `manual`.
        plan: The plan as a JSON document.
        config_digest: Digest of the config; another one means that the run cannot be resumed.
        code_digest: Digest of our sources, likewise.
    """

    run_id: str
    span: int
    version: int
    trigger: str
    plan: str
    config_digest: str = ""
    code_digest: str = ""


class RunRecord(RunStart):
    """A cycle that ran; while `outcome` is None it is running, or its worker died.

    Attributes:
        attempts: Attempts at the node where it stands; progress begins the count anew.
        error: Headline and message of the failure, for `failed`.
        decision_path: Where the decision record lies.
    """

    outcome: RunOutcome | None = None
    attempts: int = 0
    error: str | None = None
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    decision_path: str | None = None


class ModelRecord(Record):
    """A pushed model and everything a later cycle needs from it.

    Attributes:
        version: Number that serving knows it by.
        span: Span whose arrival made it; for a cold start the last one of the window.
        model_uri: Folder of the Model artifact.
        model_digest: Digest of the whole Model artifact.
        training_digest: Digest of its `Format-Training` folder, which a warm start checks.
        transform_span: Span at whose cold start the transform graph was analysed; tells when a refresh is due.
        statistics_uri: Statistics of the data it was trained on: the reference for drift.
        model_shape: A `schemas.training.ModelShape` as JSON, by which a plan tells whether weights can be carried over.
        line_length: Warm starts since the line's cold start.
        line_start_span: Span of the cold start that its line began with.
        newest_span: Newest span that it or an ancestor learned from; the champion's never falls.
        base_version: Version of the model it started from; None for a cold start.
        is_pinned: Kept by garbage collection whatever its age.
        removed_at: When garbage collection removed its files; None while they are there.
    """

    version: int = Field(ge=1)
    run_id: str
    span: int
    span_version: int
    model_uri: str
    model_digest: str
    training_digest: str
    transform_graph_uri: str
    transform_span: int
    statistics_uri: str
    model_shape: str
    line_length: int = 0
    line_start_span: int | None = None
    newest_span: int | None = None
    base_version: int | None = None
    pushed_at: AwareDatetime
    is_pinned: bool = False
    removed_at: AwareDatetime | None = None


class ChampionRecord(ModelRecord):
    """The model that serves, and since when (UTC)."""

    moved_at: AwareDatetime


class ChampionMove(Record):
    """One move of the champion pointer.

    Attributes:
        previous: The champion before; None for the first.
        by: `cycle`, or the command that asked: `promote`, `rollback`.
    """

    version: int
    previous: int | None
    by: str
    reason: str | None = None
    run_id: str | None = None
    at: AwareDatetime


class TriggerRequest(Record):
    """What a person asked the daemon for.

    Attributes:
        id: Number of the request, in the order they came.
        span: Span to run; None: the next one that is due.
        initialisation: How to start, in the config's words; None: as the config says.
        taken_at: When the daemon took it up; None while it waits.
    """

    id: int
    span: int | None
    initialisation: str | None
    requested_at: AwareDatetime
    taken_at: AwareDatetime | None = None
