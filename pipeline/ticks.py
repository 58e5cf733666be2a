"""What the daemon knows when it looks, and what it is told to do: the records that `pipeline.triggers` maps on another.

In here: both records, and what they promise. Not in here: how the first is read, how the second is carried out.
"""

from collections.abc import Mapping

from pydantic import AwareDatetime, Field

from pipeline.policies import Action
from schemas.base import Record
from schemas.ledger_records import SpanRecord, TriggerRequest
from schemas.spans import SpanRef
from schemas.training import Initialisation

# How many records of each kind a view needs at most, so that a look costs the same after ten years as after ten days.
MAX_WAITING = 100
MAX_FINISHED = 100


class Running(Record):
    """The cycle that runs now.

    Attributes:
        policy: Name of the policy that started it.
        is_stopping: It was told to stop at the next node and has not yet.
    """

    run_id: str
    span: SpanRef
    policy: str
    action: Action
    started_at: AwareDatetime
    is_stopping: bool = False


class TriggerView(Record):
    """All that a look rests on; its size does not grow with the history.

    Attributes:
        waiting: Spans in state `arrived` that no cycle has begun with, oldest first: the first `MAX_WAITING`, and the
            newest of all whatever their number.
        predecessors: For each waiting span the newest span number before it that the ledger knows in any state; absent
            where it knows none. A folder that cannot be used is not known.
        unusable: Why a span's newest version on disk cannot be used, by span.
        finished: Newest version of the spans that a cycle has finished with, newest span first, `MAX_FINISHED` of them.
        metric: The task's headline metric, which decay is about.
        line_start_span: Span of the cold start that the champion descends from; decay counts from there.
        last_full_training_span: Newest span of the last cold start or shadow model, failed ones included; None: none.
        cold_spans: Without a champion, the spans in the window of the first cold start, so that the first model learns
            from history. None: there is a champion.
        newest_span: Newest span number that is known; None: no span has ever come.
        newest_arrived_at: When the newest one came.
        requests: What people asked for and nobody has taken, in the order they came.
        requested: Newest version of each span that a request names; absent where there is none.
        running: The cycle that runs; None: none does.
        last_run_finished_at: End of the last cycle, whatever became of it.
        fired: What `Tick.fired` said last, by policy.
        compute_seconds_today: Wall seconds that cycles ran since midnight UTC, the running one included.
        looked_at: When a daemon looked last; None: none ever did. It moves only after a tick that skipped no span.
        has_just_started: No look of this process is behind `looked_at`: what came since came while nobody looked.
    """

    waiting: tuple[SpanRecord, ...] = ()
    predecessors: Mapping[int, int] = {}
    unusable: Mapping[int, str] = {}
    finished: tuple[SpanRecord, ...] = ()
    metric: str
    line_start_span: int | None = None
    last_full_training_span: int | None = None
    cold_spans: int | None = Field(default=None, ge=1)
    newest_span: int | None = None
    newest_arrived_at: AwareDatetime | None = None
    requests: tuple[TriggerRequest, ...] = ()
    requested: Mapping[int, SpanRecord] = {}
    running: Running | None = None
    last_run_finished_at: AwareDatetime | None = None
    fired: Mapping[str, AwareDatetime] = {}
    compute_seconds_today: float = 0.0
    looked_at: AwareDatetime | None = None
    has_just_started: bool = False


class Start(Record):
    """A cycle to start now.

    A span that is not `arrived`, which only a person can ask for, goes back there first.

    Attributes:
        initialisation: How the Trainer starts; None: as `training.initialisation` says.
        why: One sentence for the ledger and the log.
        request_id: The request that is taken with it; None where nobody asked.
    """

    policy: str
    span: SpanRef
    action: Action
    initialisation: Initialisation | None = None
    why: str
    request_id: int | None = None


class SkippedSpan(Record):
    """A waiting span that becomes `skipped`, and why."""

    span: SpanRef
    reason: str


class Replacement(Record):
    """The running cycle is told to stop at its next node and is given up.

    Attributes:
        span: The span that becomes `skipped` for `reason` once the cycle has stopped, so that the newer one can take
            its place; None: a shadow model's, which stays as it is.
    """

    run_id: str
    span: SpanRef | None
    reason: str


class Refusal(Record):
    """A request that is taken and not followed, and why."""

    request_id: int
    reason: str


class Tick(Record):
    """What to do after a look, in the order of the attributes.

    A tick skips spans or starts a cycle, never both: after one that skips, look again at once.

    Attributes:
        fired: Fire times to keep, by policy, before anything else.
        refusals: Requests to take without a cycle.
        skips: Spans to move to `skipped`.
        replace: The running cycle to stop.
        start: The cycle to start.
        alerts: Sentences for people: spans that are overdue, missing or unusable, and fire times that were dropped. A
            sentence is the same for as long as its cause is.
        waits_for: Why nothing starts; empty where something does.
        next_wake: The first moment at which time alone can change the answer; None: only an event can, such as an
            arrival, a request, or the end of the cycle.
    """

    fired: Mapping[str, AwareDatetime] = {}
    refusals: tuple[Refusal, ...] = ()
    skips: tuple[SkippedSpan, ...] = ()
    replace: Replacement | None = None
    start: Start | None = None
    alerts: tuple[str, ...] = ()
    waits_for: str = ""
    next_wake: AwareDatetime | None = None
