"""Hold a pipeline's lease for as long as a block of work lasts. What the lease means is in `ledger/`."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import LeaseLostError, PipelineError
from ledger.ledger import Ledger
from schemas.ledger_records import Lease

# Three signs of life fit into the time after which a holder counts as silent.
BEATS_PER_TTL = 3
_LOG = logging.getLogger(__name__)


@contextmanager
def leading(ledger: Ledger, ttl_seconds: float, *, stop: threading.Event | None = None) -> Iterator[Lease]:
    """Take the lease, show signs of life from a thread of its own, and give the lease back at the end.

    Losing it sets `stop`, if there is one; in any case the next write of the worker raises LeaseLostError.

    Args:
        ledger: The ledger whose writes are fenced from here on.
        ttl_seconds: How long a silent holder is waited for.
        stop: Set when the lease is lost; also ends the wait for a silent holder.

    Raises:
        LeaseHeldError: another worker that is alive has it.
    """
    lease = ledger.acquire(ttl_seconds=ttl_seconds, stop=stop)
    finished = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(ledger, ttl_seconds / BEATS_PER_TTL, finished, stop), name="lease", daemon=True
    )
    thread.start()
    try:
        yield lease
    finally:
        finished.set()
        thread.join()
        try:
            ledger.release()
        except PipelineError as error:
            # Who comes next waits for the lease to run out; what was written stands.
            _LOG.warning("The lease could not be given back: %s", error)


def _beat(ledger: Ledger, seconds: float, finished: threading.Event, stop: threading.Event | None) -> None:
    while not finished.wait(seconds):
        try:
            ledger.beat()
        except LeaseLostError as error:
            _LOG.error("%s", error)
            if stop is not None:
                stop.set()
            return
        except PipelineError as error:
            # A database that is away for a moment costs nothing while the lease lasts.
            _LOG.warning("No sign of life could be given: %s", error)
