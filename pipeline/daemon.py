"""`Daemon`: looks, decides by the triggers, and runs cycles, for as long as it holds the pipeline's lease.

In here: the loop, and what a failure or a signal does to it. When something is due is `triggers.py`'s, how a cycle runs
`controller.py`'s. No exception of a cycle ends the daemon; only `stop` does.
"""

import logging
import threading

from core.errors import LeaseHeldError, LeaseLostError, PipelineError, UnavailableError
from pipeline.config import Config
from pipeline.health import Board
from pipeline.logs import make_log
from pipeline.policies import RetryOptions
from pipeline.term import Seams, Term, sentence_of

DEFAULT_GRACE_SECONDS = 600.0
# A loop counts as dead when it is silent for so many poll intervals, and for a minute at least: a look at a slow disk
# may take a while.
LIVE_POLLS = 10
LIVE_SECONDS = 60.0


class Daemon:
    """One worker of one pipeline.

    Attributes:
        board: What it does, for others to read.
        has_left_work: The grace was over before the cycle had stopped; it ends with the process, and the next worker
            goes on from there.

    Args:
        config: The pipeline's config.
        seams: What it works with.
        grace_seconds: How long `stop` waits for the running cycle to reach the end of a node.
    """

    def __init__(self, config: Config, seams: Seams, *, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> None:
        self.board = Board(config.name, seams.clock)
        self.has_left_work = False
        self._config = config
        self._seams = seams
        self._clock = seams.clock
        self._grace_seconds = grace_seconds
        self._log = make_log(config.name)
        self._backoff = Backoff(config.retries)
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._wake = threading.Event()
        self._leave = _Bell(self._wake)

    def run(self) -> None:
        """Work until `stop`; wait for the lease while another worker has it."""
        while not self._stop.is_set():
            try:
                self._take_a_term(is_once=False)
            except (LeaseHeldError, LeaseLostError) as error:
                self._stand_by(error)
            except Exception as error:
                self._wait_after(error)
        self.board.update(state="stopping", holds_lease=False)

    def run_once(self) -> None:
        """Run everything that is due, one cycle after another, and return when nothing is.

        Spans are not held apart by the minimum interval here: what calls this again and again has one of its own.

        Raises:
            LeaseHeldError: another worker has the pipeline.
            PipelineError: of the first cycle that failed.
        """
        try:
            self._take_a_term(is_once=True)
        except UnavailableError:
            # Asked to stop while it waited for the lease.
            if not self._stop.is_set():
                raise

    def stop(self) -> None:
        """Stop taking work and let the running cycle stop at its next node; the second time, leave at once.

        Not to be called from a signal handler itself, which may interrupt the very lock that this takes.
        """
        if self._stop.is_set():
            self._hurry.set()
        self._log.info("Asked to stop.", extra={"event": "stop_requested"})
        self._stop.set()
        self._leave.set()

    def wake(self) -> None:
        """Look now: something may have come."""
        self._wake.set()

    def _take_a_term(self, *, is_once: bool) -> None:
        """Hold the lease and work, until there is nothing to do, the lease is lost, or `stop`."""
        self._leave = _Bell(self._wake)
        if self._stop.is_set():
            return
        ttl_seconds = self._config.worker.lease_ttl_seconds
        self._expect_life(2 * ttl_seconds)
        with self._seams.open_ledger() as ledger, self._seams.lead(ledger, ttl_seconds, self._leave):
            self._log.info("This worker has the lease.", extra={"event": "lease_taken"})
            self.board.update(state="idle", holds_lease=True, holder=None)
            term = Term(self._config, ledger, self._seams, self.board, wake=self.wake, is_once=is_once)
            try:
                self._work(term, is_once=is_once)
            finally:
                self._wind_down(term)
        if not self._stop.is_set() and self._leave.is_set():
            raise LeaseLostError("Another worker has taken the pipeline over. This one stands by.")

    def _work(self, term: Term, *, is_once: bool) -> None:
        while not self._leave.is_set():
            if not is_once:
                self._look_or_wait(term)
                continue
            seconds = term.look()
            if term.is_done:
                return
            self._wait_for_news(seconds)

    def _look_or_wait(self, term: Term) -> None:
        try:
            seconds = term.look()
        except LeaseLostError:
            raise
        except Exception as error:
            self._wait_after(error)
            return
        if term.is_well:
            self._backoff.reset()
        self._wait_for_news(seconds)

    def _wind_down(self, term: Term) -> None:
        """Let the running cycle stop. Who lost the lease waits however long: two cycles must not run in one process."""
        term.ask_to_stop()
        self.board.update(state="stopping")
        deadline = self._clock.monotonic() + self._grace_seconds
        while term.is_running and not self._may_leave_work(deadline):
            self._wait_for_news(min(self._config.triggers.poll_seconds, self._grace_seconds))
        self.has_left_work = term.is_running
        try:
            term.close()
        except PipelineError as error:
            self._log.warning("The cycle ended with: %s", sentence_of(error), extra={"event": "cycle_failed"})
        self.board.update(holds_lease=False, running=None, node=None)

    def _may_leave_work(self, deadline: float) -> bool:
        return self._hurry.is_set() or (self._stop.is_set() and self._clock.monotonic() >= deadline)

    def _stand_by(self, error: PipelineError) -> None:
        if self.board.status.problem != str(error):
            self._log.info("%s", error, extra={"event": "standby"})
        self.board.update(state="standby", holds_lease=False, problem=str(error))
        self._wait(self._stop, min(self._config.triggers.poll_seconds, self._config.worker.lease_ttl_seconds))

    def _wait_after(self, error: Exception) -> None:
        """Say what failed and wait, longer each time; arrivals do not end this wait."""
        if self._stop.is_set():
            return
        seconds = self._backoff.next_seconds()
        sentence = sentence_of(error)
        self.board.update(state="backing_off", problem=sentence)
        level = logging.WARNING if getattr(error, "retryable", False) else logging.ERROR
        self._log.log(
            level,
            "%s Trying again in %.0f s.",
            sentence,
            seconds,
            extra={"event": "backing_off", "seconds": seconds},
            # A sentence of ours says all; of a bug one wants to know where.
            exc_info=None if isinstance(error, PipelineError) else error,
        )
        self._wait(self._leave, seconds)

    def _wait_for_news(self, seconds: float) -> None:
        self._wait(self._wake, seconds)
        # Cleared before the caller looks, so that what rings from here on is seen by this look or ends the next wait.
        self._wake.clear()

    def _wait(self, event: threading.Event, seconds: float) -> None:
        self._expect_life(seconds)
        self._clock.wait(event, seconds)
        self._expect_life(0.0)

    def _expect_life(self, seconds: float) -> None:
        patience = max(LIVE_SECONDS, LIVE_POLLS * self._config.triggers.poll_seconds)
        self.board.expect_life_within(seconds + patience)


class Backoff:
    """How long to wait after failures in a row: twice as long each time.

    Example:
        >>> backoff = Backoff(RetryOptions(backoff_seconds=5, max_backoff_seconds=12))
        >>> [backoff.next_seconds() for _ in range(3)]
        [5.0, 10.0, 12.0]
    """

    def __init__(self, options: RetryOptions) -> None:
        self._options = options
        self._num_failures = 0

    def next_seconds(self) -> float:
        """Count one more failure, and return how long to wait."""
        # The exponent is bounded, since a float is.
        seconds = self._options.backoff_seconds * 2.0 ** min(self._num_failures, 64)
        self._num_failures += 1
        return min(seconds, self._options.max_backoff_seconds)

    def reset(self) -> None:
        """Begin anew: it went well."""
        self._num_failures = 0


class _Bell(threading.Event):
    """An event that also rings another one, on which somebody waits."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def set(self) -> None:
        super().set()
        self._other.set()
