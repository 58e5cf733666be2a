"""One cycle in a thread of its own, so that the daemon goes on looking, answering and beating while it runs."""

import threading
from collections.abc import Callable
from typing import Protocol

from core.clock import Clock
from pipeline.cycle import Listeners
from pipeline.decision import Decision
from pipeline.plan import Request, RunPlan, Skip
from pipeline.ticks import Running
from schemas.spans import SpanRef

Result = Decision | Skip | None
# Runs a function in the background. Tests have something that they can watch step by step.
Spawn = Callable[[Callable[[], None]], None]


class CycleRunner(Protocol):
    """What carries out what the daemon decides; `pipeline.controller.Controller` does."""

    def resume(self) -> Result:
        """Finish what a dead worker left; None: there is nothing to finish."""

    def run_request(self, request: Request) -> Result:
        """Run a cycle."""

    def abandon(self, run_id: str, why: str) -> None:
        """Close an open run that nobody goes on with, and let its span wait again."""

    def reconcile_serving(self) -> None:
        """Make the served folder show the champion."""

    def deferred_spans(self) -> frozenset[SpanRef]:
        """Return the corrections that wait for the next cycle of another span."""


def spawn_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread that does not keep the process alive: a hung node must not."""
    threading.Thread(target=work, name="cycle", daemon=True).start()


class CycleThread:
    """A cycle that runs in the background.

    Attributes:
        policy: Name of the policy that started it; None: it finishes what a dead worker left.
        stop: Set it, and the cycle stops before its next node.
        running: What runs; None until its plan is made.
        node: The node that runs.

    Args:
        policy: See above.
        clock: Tells when it started.
        on_change: Called from the cycle's thread with its plan, with every node, and at the end.
    """

    def __init__(self, policy: str | None, *, clock: Clock, on_change: Callable[[], None]) -> None:
        self.policy = policy
        self.stop = threading.Event()
        self.running: Running | None = None
        self.node: str | None = None
        self._clock = clock
        self._on_change = on_change
        self._ended = threading.Event()
        self._result: Result = None
        self._error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether `result` may be asked."""
        return self._ended.is_set()

    @property
    def listeners(self) -> Listeners:
        """Who the runner tells what happens, and asks whether to stop."""
        return Listeners(plan=self._planned, node=self._reached, stop=self.stop)

    def start(self, work: Callable[[], Result], spawn: Spawn) -> None:
        """Begin; `work` must use `listeners`."""

        def whole() -> None:
            try:
                self._result = work()
            except Exception as error:
                # Whatever it is, the daemon decides what it leads to, not the thread that it ends.
                self._error = error
            self._ended.set()
            self._on_change()

        spawn(whole)

    def ask_to_stop(self) -> None:
        """Let it stop at the next node boundary."""
        self.stop.set()
        if self.running is not None:
            self.running = self.running.model_copy(update={"is_stopping": True})

    def result(self) -> Result:
        """Return what the work returned.

        Raises:
            Exception: what the work raised.
        """
        if self._error is not None:
            raise self._error
        return self._result

    def _planned(self, plan: RunPlan) -> None:
        self.running = Running(
            run_id=plan.run_id,
            span=plan.span,
            policy=self.policy or plan.trigger,
            action="shadow" if plan.is_shadow else plan.action,
            started_at=self._clock.now(),
            is_stopping=self.stop.is_set(),
        )
        self._on_change()

    def _reached(self, node_id: str) -> None:
        self.node = node_id
        self._on_change()
