"""One attempt at one run: its DAG, and the steps by which its outcome enters the ledger and serving.

Every step may be repeated, so an attempt that is killed anywhere is finished by the next one. Not in here: which run
is due, and what a failure leads to.
"""

import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from core.clock import Clock, SystemClock
from core.digests import digest_of_file, digest_of_json
from core.errors import DataError, PipelineError, StoppedError
from ledger.ledger import Ledger
from pipeline.config import Config
from pipeline.decision import Decision, Push, read_decision, write_decision
from pipeline.plan import RunPlan
from pipeline.promotion import moves_backwards, newest_span
from pipeline.record import Outcome
from pipeline.registry import serve_champion
from schemas.ledger_records import ModelRecord, RunOutcome, SpanOutcome, SpanState
from schemas.spans import SpanRef
from schemas.training import ModelShape

# What a cycle passes through, in order, before its last state.
STAGES: tuple[SpanState, ...] = ("arrived", "validated", "trained", "evaluated")
# The nodes behind DriftGate's condition: when one starts, the span's data has passed.
_GUARDED = frozenset({"Prequential", "ReplayGen", "WindowExampleGen", "AnalysisExampleGen", "Transform", "Trainer"})
_STAGE_REACHED: dict[str, SpanState] = {"Trainer": "trained", "Gate": "evaluated"}
# Outcomes after which the span is not done yet: a second run follows.
_PASSING_OUTCOMES = frozenset({"cold_start", "champion_moved"})
# Gives a block in which this worker alone writes; raises there if it may not write any more.
Fence = Callable[[], AbstractContextManager[None]]


class NodeObserver(Protocol):
    """Who is told of every node of a DAG, and may stop it by raising."""

    def check(self, node_id: str) -> None:
        """Raise StoppedError if the worker should leave, or the span's data is out of date; else do nothing."""

    def node_started(self, node_id: str) -> None:
        """Called before a node's executor runs; importers have none."""

    def node_finished(self, node_id: str) -> None:
        """Called when a node's outputs are recorded."""

    def fenced(self) -> AbstractContextManager[None]:
        """Return what a node's outputs are published in; raises there if this worker may not write any more."""


class Dag(Protocol):
    """What runs a plan. TFX does; a test may have something quicker."""

    code_digest: str

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Run what is not finished of the plan's DAG."""

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Return what the DAG of `plan` did; what `trained` did stands in it where it only judged that candidate."""

    def give_up(self, run_id: str, fenced: Fence) -> None:
        """End what a dead worker left running in a run that nobody goes on with.

        Args:
            run_id: The run.
            fenced: What is written of it is written in this; others wait meanwhile, so waiting is done outside.
        """


def _ignore(_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Listeners:
    """Who is told what, while it happens.

    Attributes:
        plan: Given each plan before its DAG runs.
        node: Given a node's id when the node starts.
        step: Given the name of each step of the record before it is made; a drill kills there.
        decided: Given the decision inside the fence, before anything else is recorded of it.
        stop: Set it, and the cycle stops before its next node.
    """

    plan: Callable[[RunPlan], None] = _ignore
    node: Callable[[str], None] = _ignore
    step: Callable[[str], None] = _ignore
    decided: Callable[[Decision], None] = _ignore
    stop: threading.Event = field(default_factory=threading.Event)


class Cycle:
    """Runs and records the plans of one pipeline.

    Args:
        config: The pipeline's config.
        ledger: Its ledger, with the lease taken.
        dag: What runs a plan.
        listeners: Who is told.
        clock: Where the time comes from.
    """

    def __init__(
        self, config: Config, ledger: Ledger, dag: Dag, listeners: Listeners, clock: Clock | None = None
    ) -> None:
        self.config = config
        self.dag = dag
        self.listeners = listeners
        self.clock = clock or SystemClock()
        self._ledger = ledger

    def run(self, plan: RunPlan, *, is_resumed: bool = False, started_at: datetime | None = None) -> Decision:
        """Run the plan's DAG and record its outcome.

        Args:
            plan: The plan.
            is_resumed: Whether an earlier attempt had begun; the decision says so.
            started_at: When the DAG was started, where that was not here and now.

        Raises:
            PipelineError: a node failed; the run stays open.
        """
        begun, now = self.clock.monotonic(), self.clock.now()
        started_at = started_at or now
        # By the clocks of two machines, which may disagree.
        seconds_before = max(0.0, (now - started_at).total_seconds())
        self.listeners.plan(plan)
        try:
            self.dag.run(plan, _Watch(self._ledger, plan, self.listeners))
        except PipelineError:
            # What is recorded is done, though the pod that recorded it ended badly.
            if not self._is_recorded(plan):
                raise
        if self._is_recorded(plan):
            return read_decision_of(self._ledger, plan.run_id)
        self.listeners.step("outcome")
        outcome = self.dag.outcome(plan, first_version=self._ledger.first_version(), trained=self._trained(plan))
        seconds = max(seconds_before + self.clock.monotonic() - begun, sum(outcome.seconds.values()))
        word, push, notes = self._publish(plan, outcome)
        if is_resumed:
            notes = (*notes, "An earlier attempt had stopped; this one went on at the node where it did.")
        decision = self._decision(plan, started_at, word, outcome, push)
        decision = decision.model_copy(
            update={
                "reasons": (*plan.why, *outcome.reasons, *notes),
                "seconds": {**outcome.seconds, "total": round(seconds, 2)},
            }
        )
        self._record(plan, outcome, decision, notes)
        return decision

    def failed(self, plan: RunPlan, outcome: RunOutcome, text: str) -> None:
        """Record that a run is given up, for now or for good."""
        decision = Decision(
            pipeline=self.config.name,
            run_id=plan.run_id,
            runner=self._runner_name,
            started_at=self.clock.now(),
            outcome=outcome,
            reasons=plan.why,
            plan=plan,
            seconds={"total": 0.0},
            digests=self._digests(plan),
            error=text,
        )
        self.listeners.step("give_up")
        with self._ledger.fenced():
            path = write_decision(self.config.runs_path, decision)
            self._ledger.finish_run(plan.run_id, outcome, error=text, decision_path=str(path))

    def _is_recorded(self, plan: RunPlan) -> bool:
        """Tell whether the run has recorded itself, from inside a cluster; of a successor's record nothing is told.

        Raises:
            LeaseLostError: another worker has taken over.
        """
        self._ledger.beat()
        return self._ledger.run(plan.run_id).outcome is not None

    @property
    def _runner_name(self) -> str:
        return str(getattr(self.dag, "runner", self.config.runner))

    def _trained(self, plan: RunPlan) -> Decision | None:
        """Return the decision on the run that trained the candidate of a run that only judges it."""
        return None if plan.candidate_run_id is None else read_decision_of(self._ledger, plan.candidate_run_id)

    def _publish(self, plan: RunPlan, outcome: Outcome) -> tuple[RunOutcome, Push | None, tuple[str, ...]]:
        """Make a blessed candidate the champion and let serving see it.

        Returns:
            The run's outcome, what became of the candidate, and sentences on what went another way than the gate says.
        """
        if outcome.push is None:
            return outcome.word, None, ()
        model = self._model_record(plan, outcome)
        champion = self._ledger.champion()
        is_ours_already = champion is not None and champion.version == model.version
        expected = plan.champion.version if plan.champion else None
        if not is_ours_already:
            if (champion.version if champion else None) != expected:
                return "champion_moved", outcome.push, ("The champion moved while this candidate was judged.",)
            if (reason := moves_backwards(model, champion)) is not None:
                return "rejected", None, (reason,)
        self.listeners.step("record_model")
        self._ledger.record_model(model)
        self.listeners.step("promote")
        if not self._ledger.promote(expected, model.version, run_id=plan.run_id, reason=outcome.reasons[0]):
            return "champion_moved", outcome.push, ("The champion moved while this candidate was judged.",)
        self.listeners.step("expose")
        serve_champion(self.config, self._ledger)
        return "pushed", outcome.push.model_copy(update={"is_champion": True}), ()

    def _record(self, plan: RunPlan, outcome: Outcome, decision: Decision, notes: tuple[str, ...]) -> None:
        self.listeners.step("decide")
        # A worker that was taken for dead must not write over what its successor found.
        with self._ledger.fenced():
            path = write_decision(self.config.runs_path, decision)
            self.listeners.decided(decision)
        # A shadow model is trained for a span that has its own outcome already.
        if decision.outcome not in _PASSING_OUTCOMES and not plan.is_shadow:
            self.listeners.step("finish_span")
            self._finish_span(plan.span, self._span_outcome(plan, outcome, decision, notes))
        # What only joined a warm start's window has been learned if the model serves; else it waits for the next one.
        is_learned = plan.initialisation == "cold" or decision.outcome == "pushed"
        if outcome.gate is not None and is_learned and not plan.is_shadow:
            self.listeners.step("finish_history")
            reason = f"in the window of span {plan.span.span}"
            self._ledger.finish_history(plan.window[:-1], run_id=plan.run_id, reason=reason)
        self.listeners.step("finish_run")
        self._ledger.finish_run(plan.run_id, decision.outcome, decision_path=str(path))
        shutil.rmtree(self.config.checkpoints_path / plan.checkpoint_name, ignore_errors=True)

    def _finish_span(self, ref: SpanRef, outcome: SpanOutcome) -> None:
        if self._ledger.span(ref).state == "superseded":
            # Its correction came in the last moment, and will find what this version taints.
            return
        reached: dict[SpanState, SpanState] = {"pushed": "evaluated", "rejected": "evaluated", "skipped": "validated"}
        if outcome.state in reached:
            advance(self._ledger, ref, reached[outcome.state], run_id=str(outcome.run_id))
        self._ledger.finish_span(ref, outcome)

    def _decision(
        self, plan: RunPlan, started_at: datetime, word: RunOutcome, outcome: Outcome, push: Push | None
    ) -> Decision:
        return Decision(
            pipeline=self.config.name,
            run_id=plan.run_id,
            runner=self._runner_name,
            started_at=started_at,
            outcome=word,
            reasons=(),
            plan=plan,
            drift=outcome.drift,
            gate=outcome.gate,
            training=outcome.training,
            prequential=outcome.prequential,
            push=push,
            model=outcome.model,
            first_model_auc=outcome.first_model_auc,
            seconds={},
            digests=self._digests(plan),
        )

    def _span_outcome(self, plan: RunPlan, outcome: Outcome, decision: Decision, notes: tuple[str, ...]) -> SpanOutcome:
        reasons = (*notes, *outcome.reasons) if decision.outcome != outcome.word else outcome.reasons
        return SpanOutcome.model_validate(
            {
                "state": "skipped" if decision.outcome == "scored" else decision.outcome,
                "run_id": plan.run_id,
                "drift_verdict": outcome.drift.verdict,
                "candidate_auc": outcome.gate.candidate.get("auc") if outcome.gate else None,
                "champion_auc": outcome.gate.champion.get("auc") if outcome.gate else None,
                "pushed_version": decision.push.version if decision.push else None,
                "seconds": decision.seconds["total"],
                "statistics_uri": outcome.statistics_uri,
                "replay_uri": outcome.replay_uri,
                "prequential": outcome.prequential.metrics if outcome.prequential else None,
                "reason": reasons[0] if reasons else None,
            }
        )

    def _model_record(self, plan: RunPlan, outcome: Outcome) -> ModelRecord:
        is_cold = (outcome.training or {}).get("initialisation") == "cold"
        base = None if is_cold else plan.base
        # What a frozen transform graph was analysed on stays the reference of its line.
        frozen = plan.base if not plan.analysis_window else None
        shape = ModelShape(feature_set=self.config.feature_set, model=self.config.training.model)
        # A repair's own span is an old one; what it learned is as new as its window.
        newest = max(ref.span for ref in plan.window)
        return ModelRecord.model_validate(
            {
                **(outcome.model or {}),
                "version": plan.push_version,
                "run_id": plan.run_id,
                "span": plan.span.span,
                "span_version": plan.span.version,
                "statistics_uri": frozen.statistics_uri if frozen else outcome.window_statistics_uri,
                "transform_span": frozen.transform_span if frozen else newest,
                "model_shape": shape.model_dump_json(),
                "line_length": 0 if base is None else plan.line_length,
                "line_start_span": newest if base is None else _line_start(base),
                "newest_span": newest if base is None else max(newest, newest_span(base)),
                "base_version": base.version if base else None,
                "pushed_at": self._ledger.run(plan.run_id).started_at,
            }
        )

    def _digests(self, plan: RunPlan) -> dict[str, str]:
        return {
            "code": self.dag.code_digest,
            "config": self.config.digest,
            "schema": digest_of_file(Path(self.config.schema_file)),
            "data": digest_of_json([ref.model_dump() for ref in plan.window]),
        }


def read_decision_of(ledger: Ledger, run_id: str) -> Decision:
    """Return the decision on a run: as the ledger keeps it of a run in a cluster, else from the run's folder.

    Raises:
        DataError: neither has it.
    """
    document = ledger.decision(run_id)
    if document is not None:
        return Decision.model_validate_json(document)
    path = ledger.run(run_id).decision_path
    if path is None or not Path(path).is_file():
        raise DataError(
            f"The decision on run {run_id!r} is gone. Expected it at {path!r}. Bring the file back from a backup."
        )
    return read_decision(Path(path))


def _line_start(model: ModelRecord) -> int:
    return model.span if model.line_start_span is None else model.line_start_span


def advance(ledger: Ledger, ref: SpanRef, to_state: SpanState, *, run_id: str) -> None:
    """Move a span through all stages that lie before `to_state`, and into it; a span that is further stays.

    A worker that was killed between a node's publication and the ledger's word for it left one out.
    """
    state = ledger.span(ref).state
    if state not in STAGES:
        return
    for stage in STAGES[STAGES.index(state) + 1 : STAGES.index(to_state) + 1]:
        ledger.move_span(ref, stage, run_id=run_id)


class _Watch:
    """Follows a DAG: tells the listeners, keeps the span's state in step, and stops the cycle when asked to."""

    def __init__(self, ledger: Ledger, plan: RunPlan, listeners: Listeners) -> None:
        self._ledger = ledger
        self._plan = plan
        self._listeners = listeners

    def check(self, node_id: str) -> None:
        """Refuse to go on where the worker was asked to stop, or the data is out of date."""
        if self._listeners.stop.is_set():
            raise StoppedError(
                f"The worker was asked to stop before node {node_id!r} of span {self._plan.span.span}. What is "
                "finished stays finished: the run goes on there the next time."
            )
        if not self._plan.is_shadow and self._ledger.span(self._plan.span).state == "superseded":
            raise StoppedError(
                f"A corrected version of span {self._plan.span.span} arrived before node {node_id!r}. "
                f"This run of version {self._plan.span.version} is given up, and the new one is planned."
            )

    def node_started(self, node_id: str) -> None:
        """Tell who listens, unless the node must not begin."""
        self.check(node_id)
        if node_id in _GUARDED:
            self._advance("validated")
        self._listeners.node(node_id)

    def node_finished(self, node_id: str) -> None:
        """Count the progress, and move the span on."""
        self._ledger.node_finished(self._plan.run_id)
        if node_id in _STAGE_REACHED:
            self._advance(_STAGE_REACHED[node_id])

    def fenced(self) -> AbstractContextManager[None]:
        """Return the ledger's fence."""
        return self._ledger.fenced()

    def _advance(self, to_state: SpanState) -> None:
        # The span of a shadow model is done; it only lends its examples.
        if not self._plan.is_shadow:
            advance(self._ledger, self._plan.span, to_state, run_id=self._plan.run_id)
