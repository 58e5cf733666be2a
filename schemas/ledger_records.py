"""What the ledger stores, as values that a plan can be computed from. How it is stored is in `ledger/`."""

from typing import Literal

from pydantic import AwareDatetime, Field

from schemas.base import Record

SpanState = Literal["arrived", "trained", "rejected", "pushed", "blocked"]
RunOutcome = Literal["rejected", "pushed", "blocked", "cold_start", "failed"]


class SpanOutcome(Record):
    """How one span ended.

    Attributes:
        state: `pushed`, `rejected` (the gate said no), `blocked` (its data said no), or `trained` (learned from
            without a gate of its own, as the history inside a cold start's window is).
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
    updated_at: AwareDatetime


class RunStart(Record):
    """A cycle that is about to run.

    Attributes:
        run_id: Unique; TFX knows the pipeline run by the same name.
        trigger: What asked for the run, e.g. `manual`.
        plan: The plan as a JSON document.
    """

    run_id: str
    span: int
    version: int
    trigger: str
    plan: str


class RunRecord(RunStart):
    """A cycle that ran, or is running while `outcome` is None.

    Attributes:
        error: Headline and message of the failure, for `failed`.
        decision_path: Where the decision record lies.
    """

    outcome: RunOutcome | None = None
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
        base_version: Version of the model it started from; None for a cold start.
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
    base_version: int | None = None
    pushed_at: AwareDatetime


class ChampionRecord(ModelRecord):
    """The model that serves, and since when (UTC)."""

    moved_at: AwareDatetime
