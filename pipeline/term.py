"""`Term`: what a worker does while it holds the lease, one look at a time. When to look is `daemon.py`'s.

A look registers what has arrived, finishes what a dead worker left, asks the triggers, and carries out the answer.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from core.clock import Clock
from core.errors import LeaseLostError, PipelineError, StoppedError
from ledger.ledger import Ledger
from ledger.planning import SHADOW_TRIGGER
from pipeline.arrivals import Discovery, Findings
from pipeline.config import Config
from pipeline.cycle import Listeners
from pipeline.cycle_thread import CycleRunner, CycleThread, Result, Spawn, spawn_thread
from pipeline.decision import Decision
from pipeline.health import Board, LastCycle
from pipeline.leadership import leading
from pipeline.logs import make_log
from pipeline.plan import Request
from pipeline.policies import TriggerOptions
from pipeline.ticks import Replacement, Start, Tick, TriggerView
from pipeline.triggers import tick
from pipeline.view import LOOKED_AT, ProcessState, read_view

if TYPE_CHECKING:
    from schemas.spans import SpanRef

# A file of a source that has not changed for so long counts as whole; who writes longer pauses in between renames it.
SETTLE_SECONDS = 5.0
# Between two looks, so that a moment that is due by the triggers and not yet by the clock does not spin.
MIN_WAIT_SECONDS = 0.1

RunnerOf = Callable[[Ledger, Listeners], CycleRunner]
Decide = Callable[[TriggerOptions, TriggerView, datetime], Tick]
Lead = Callable[[Ledger, float, threading.Event], AbstractContextManager[object]]


def hold_lease(ledger: Ledger, ttl_seconds: float, lost: threading.Event) -> AbstractContextManager[object]:
    """Hold the lease for a block, with a thread that gives signs of life; `lost` is set when it is lost."""
    return leading(ledger, ttl_seconds, stop=lost)


@dataclass(frozen=True)
class Seams:
    """What the daemon works with; tests have quicker ones.

    Attributes:
        runner_of: Makes what runs cycles.
        open_ledger: Opens the ledger, anew for every term.
        clock: Where the time comes from.
        spawn: Runs a cycle in the background.
        decide: When something is due.
        lead: Holds a ledger's lease, of so many seconds, for a block, and sets the event when it is lost.
    """

    runner_of: RunnerOf
    open_ledger: Callable[[], Ledger]
    clock: Clock
    spawn: Spawn = spawn_thread
    decide: Decide = tick
    lead: Lead = hold_lease


class Term:
    """The time for which a worker holds the lease.

    Attributes:
        is_well: The last cycle that ended did not fail of something that the next one may fail of too.
        is_done: The last look found nothing to do, and nothing runs.

    Args:
        config: The pipeline's config.
        ledger: Its ledger, with the lease taken.
        seams: What it works with.
        board: Where it says what it does.
        wake: Ends the wait for the next look.
        is_once: Run what is due without a pause between two cycles, and raise the failure of any.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        seams: Seams,
        board: Board,
        *,
        wake: Callable[[], None],
        is_once: bool = False,
    ) -> None:
        self.is_well = True
        self.is_done = False
        self._config = config
        self._options = config.triggers
        if is_once:
            self._options = self._options.model_copy(update={"min_interval_seconds": 0.0})
        self._ledger = ledger
        self._seams = seams
        self._clock = seams.clock
        self._board = board
        self._wake = wake
        self._is_once = is_once
        self._log = make_log(config.name)
        self._discovery = Discovery(config, clock=seams.clock, settle_seconds=SETTLE_SECONDS)
        self._idle_runner = seams.runner_of(ledger, Listeners())
        self._cycle: CycleThread | None = None
        self._replacement: Replacement | None = None
        self._has_resumed = False
        self._has_refused = False
        self._left_open: str | None = None
        self._deferred: frozenset[SpanRef] = frozenset()
        self._is_first = True
        self._alerts: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether a cycle runs."""
        return self._cycle is not None and not self._cycle.has_ended

    def look(self) -> float:
        """Look once, and do what is to be done.

        Returns:
            After how many seconds to look again at the latest.

        Raises:
            LeaseLostError: another worker has taken over.
            PipelineError: the look, or a cycle since the last one, failed of something that is not its span's fault.
        """
        self.close()
        findings = self._discovery.register(self._ledger)
        if self._cycle is None:
            self._resume_or_reconcile()
        if self._has_refused:
            # The runner knew better than the triggers; asking again at once would turn in a circle.
            self._has_refused = False
            self.is_done = self._cycle is None
            return self._options.poll_seconds
        if self._cycle is not None and self._cycle.running is None:
            # It plans, or finds out what a dead worker left; the triggers must know which.
            self.is_done = False
            self._show()
            return self._options.poll_seconds
        now = self._clock.now()
        running = None if self._cycle is None else self._cycle.running
        # Who is called again and again is away in between, and not because something went wrong.
        is_back = self._is_first and not self._is_once
        state = ProcessState(now=now, running=running, is_first_look=is_back, deferred=self._deferred)
        view = read_view(self._ledger, self._config, findings, state)
        answer = self._seams.decide(self._options, view, now)
        is_settling = self._is_first and findings.num_settling > 0
        self._carry_out(answer, now)
        self.is_done = self._cycle is None and not answer.skips and not is_settling
        self._show(answer, now)
        return self._seconds_until_next_look(answer, findings)

    def ask_to_stop(self) -> None:
        """Let the running cycle, if there is one, stop at its next node."""
        if self._cycle is not None:
            self._cycle.ask_to_stop()
            self._board.update(running=self._cycle.running)

    def close(self) -> None:
        """Take note of how the cycle ended, if one has.

        Raises:
            LeaseLostError: the cycle found that another worker has taken over.
            PipelineError: it failed of something that is not its span's fault.
        """
        cycle = self._cycle
        if cycle is None or not cycle.has_ended:
            return
        self._cycle = None
        replacement, self._replacement = self._replacement, None
        try:
            self._note_result(cycle, cycle.result())
        except StoppedError:
            self._log.info("The cycle stopped between two nodes.", extra=_about(cycle, "cycle_stopped"))
            if replacement is not None:
                self._give_up(replacement)
        except Exception as error:
            self._note_failure(cycle, error)

    def _note_result(self, cycle: CycleThread, result: Result) -> None:
        self.is_well = True
        left_open, self._left_open = self._left_open, None
        if left_open is not None and (run := self._ledger.run(left_open)).error is not None:
            about = {"event": "run_given_up", "run_id": run.run_id, "span": run.span}
            self._log.warning("A run that was left open was %s: %s", run.outcome, run.error, extra=about)
        if not isinstance(result, Decision):
            if result is not None:
                self._has_refused = True
                self._log.info("%s", result.reason, extra=_about(cycle, "cycle_skipped"))
            return
        self._board.update(
            problem=None,
            last_cycle=LastCycle(
                run_id=result.run_id, span=result.plan.span.span, outcome=result.outcome, at=self._clock.now()
            ),
        )
        sentence = f"Span {result.plan.span.span} was {result.outcome} in {result.seconds['total']:.1f} s."
        self._log.info("%s", sentence, extra=_about(cycle, "cycle_ended") | {"outcome": result.outcome})

    def _note_failure(self, cycle: CycleThread, error: Exception) -> None:
        running = cycle.running
        self._board.update(
            last_cycle=LastCycle(
                run_id=running.run_id if running else None,
                span=running.span.span if running else None,
                error=sentence_of(error),
                at=self._clock.now(),
            )
        )
        blames_span = isinstance(error, PipelineError) and error.blames_span
        if isinstance(error, LeaseLostError) or self._is_once or not blames_span:
            self.is_well = False
            raise error
        # The controller has counted it against the span, which is quarantined in time.
        self._log.error("%s", sentence_of(error), extra=_about(cycle, "cycle_failed"))

    def _give_up(self, replacement: Replacement) -> None:
        """Close the run that was stopped for a newer span. Each step may be the last before a crash.

        Before the run is closed it is resumed as if nothing had been said; after that the triggers are asked again.
        """
        self._idle_runner.abandon(replacement.run_id, replacement.reason)
        if replacement.span is not None:
            self._ledger.move_span(replacement.span, "skipped", reason=replacement.reason)

    def _resume_or_reconcile(self) -> None:
        left_open = self._ledger.open_run()
        if self._has_resumed and left_open is None:
            self._idle_runner.reconcile_serving()
            self._deferred = self._idle_runner.deferred_spans()
            return
        self._has_resumed = True
        if left_open is not None:
            self._left_open = left_open.run_id
            about = {"event": "resuming", "run_id": left_open.run_id, "span": left_open.span}
            self._log.info("Run %s was left open; it is finished first.", left_open.run_id, extra=about)
        cycle = self._new_cycle(None)
        runner = self._seams.runner_of(self._ledger, cycle.listeners)

        def resume() -> Result:
            runner.reconcile_serving()
            return runner.resume()

        cycle.start(resume, self._seams.spawn)

    def _carry_out(self, answer: Tick, now: datetime) -> None:
        for policy, at in answer.fired.items():
            self._ledger.set_fired(policy, at)
        for refusal in answer.refusals:
            if self._ledger.take_request(refusal.request_id):
                self._log.warning("%s", refusal.reason, extra={"event": "request_refused"})
        for skip in answer.skips:
            self._ledger.move_span(skip.span, "skipped", reason=skip.reason)
            self._log.info("%s", skip.reason, extra={"event": "span_skipped", "span": skip.span.span})
        if answer.replace is not None:
            self._replace(answer.replace)
        if answer.start is not None:
            self._start(answer.start)
        if not answer.skips:
            self._ledger.set_fired(LOOKED_AT, now)
            self._is_first = False
        for alert in answer.alerts:
            if alert not in self._alerts:
                self._log.warning("%s", alert, extra={"event": "alert"})
        self._alerts = answer.alerts

    def _replace(self, replacement: Replacement) -> None:
        cycle = self._cycle
        if cycle is None or cycle.running is None or cycle.running.run_id != replacement.run_id:
            return
        self._log.info("%s", replacement.reason, extra=_about(cycle, "cycle_replaced"))
        self._replacement = replacement
        cycle.ask_to_stop()

    def _start(self, start: Start) -> None:
        # Taken before anything runs: a request that a crash swallows can be repeated, a cycle cannot be taken back.
        if start.request_id is not None and not self._ledger.take_request(start.request_id):
            return
        is_shadow = start.action == "shadow"
        if not is_shadow and self._ledger.span(start.span).state != "arrived":
            self._ledger.move_span(start.span, "arrived", reason=start.why)
        request = Request(
            start.span,
            SHADOW_TRIGGER if is_shadow else start.policy,
            self._clock.now(),
            0,
            action="score" if start.action == "score" else "train",
            initialisation=start.initialisation,
            force_cold=start.why if is_shadow else None,
            is_shadow=is_shadow,
        )
        cycle = self._new_cycle(start.policy)
        about = {"event": "cycle_started", "span": start.span.span, "policy": start.policy, "action": start.action}
        self._log.info("%s", start.why, extra=about)
        runner = self._seams.runner_of(self._ledger, cycle.listeners)
        cycle.start(lambda: runner.run_request(request), self._seams.spawn)

    def _new_cycle(self, policy: str | None) -> CycleThread:
        cycle = CycleThread(policy, clock=self._clock, on_change=self._on_change)
        self._cycle = cycle
        return cycle

    def _on_change(self) -> None:
        cycle = self._cycle
        if cycle is not None:
            self._board.update(running=cycle.running, node=cycle.node)
            if cycle.has_ended or cycle.node is None:
                self._wake()

    def _show(self, answer: Tick | None = None, now: datetime | None = None) -> None:
        cycle = self._cycle
        changes: dict[str, object] = {
            "state": "idle" if cycle is None else "running",
            "running": None if cycle is None else cycle.running,
            "node": None if cycle is None else cycle.node,
        }
        if self.is_well:
            changes["problem"] = None
        if answer is not None:
            changes |= {
                "waits_for": answer.waits_for,
                "next_wake": answer.next_wake,
                "alerts": answer.alerts,
                "looked_at": now,
            }
        self._board.update(**changes)

    def _seconds_until_next_look(self, answer: Tick, findings: Findings) -> float:
        if answer.skips:
            return 0.0
        seconds = self._options.poll_seconds
        if answer.next_wake is not None:
            seconds = min(seconds, (answer.next_wake - self._clock.now()).total_seconds())
        if findings.num_settling:
            seconds = min(seconds, SETTLE_SECONDS)
        return max(seconds, MIN_WAIT_SECONDS)


def sentence_of(error: Exception) -> str:
    """Return what a reader is told about a failure."""
    headline = error.headline if isinstance(error, PipelineError) else type(error).__name__
    return f"{headline}: {error}"


def _about(cycle: CycleThread, event: str) -> dict[str, object]:
    running = cycle.running
    fields: dict[str, object] = {"event": event, "policy": cycle.policy}
    if running is not None:
        fields |= {"run_id": running.run_id, "span": running.span.span, "policy": running.policy}
    return fields
