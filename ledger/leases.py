"""`Leases`: one worker at a time. A token, in SQL, keeps out every worker that lost its lease without noticing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import update

from core.errors import LeaseHeldError, LedgerError, UnavailableError
from ledger import tables
from ledger.holders import holder_of_this_process, is_dead
from ledger.rows import PipelineRows
from schemas.ledger_records import Lease

# How often a waiting worker looks whether the holder is still silent, as a part of the holder's ttl.
_LOOKS_PER_TTL = 10


class Leases(PipelineRows):
    """The lease part of the ledger."""

    def acquire(self, *, ttl_seconds: float, may_wait: bool = True, stop: threading.Event | None = None) -> Lease:
        """Become the pipeline's one worker; from here on this instance writes with the new token or not at all.

        A lease that nobody holds, or a process of this host that is gone, is taken at once. A silent holder is waited
        for as long as it said it may be silent.

        Args:
            ttl_seconds: How long this worker may be silent before another one takes over; beat every third of it.
            may_wait: Whether to wait for a silent holder.
            stop: Ends the waiting when it is set.

        Raises:
            LeaseHeldError: another worker is alive, or may be and there is no waiting.
        """
        self._check_tokenless()
        seen = self._lease_row()
        if _is_held(seen):
            if not may_wait:
                raise self._held(seen)
            seen = self._wait_for_silence(seen, stop or threading.Event())
        return self._take(seen, ttl_seconds)

    def adopt(self) -> Lease:
        """Write as the lease's present holder does: for a task that the holder started on another machine.

        The holder keeps the lease, and what is written here counts as a sign of its life. Whoever takes the lease over
        after this moment has a token of its own, and every later write here raises `LeaseLostError`: open the ledger
        again to write for the next holder. A lease that was released may be adopted until somebody takes it.

        Raises:
            LedgerError: this instance has a token already, or nobody ever held the lease.
        """
        self._check_tokenless()
        lease = self.lease()
        if lease is None:
            raise LedgerError(
                f"Pipeline {self.pipeline!r} has no lease to write under. Expected a worker that has acquired it; "
                "received token=0. Start the run with `perennial run`, which acquires the lease first."
            )
        self._token, self._is_adopted = lease.token, True
        return lease

    def beat(self) -> None:
        """Say that this worker is alive.

        Raises:
            LeaseLostError: another worker has taken over.
        """
        # Every write is a sign of life, an empty one too.
        with self.fenced():
            pass

    def release(self) -> None:
        """Let the next worker in at once; without a lease of its own, or with one that was lost, this does nothing."""
        if self._is_adopted:
            return
        ours = (tables.leases.c.pipeline == self.pipeline, tables.leases.c.token == self._token)
        with self._database.writing() as connection:
            if connection.execute(update(tables.leases).where(*ours).values(holder=None)).rowcount == 1:
                self._token = None

    def lease(self) -> Lease | None:
        """Return who holds the lease, or None before anybody ever did."""
        row = self._lease_row()
        return row if row.token > 0 else None

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Keep every other worker out for the block, as for the rename that lets serving see a model.

        What this thread writes to the ledger inside the block takes effect at its end, or not at all if it raises.
        Other writers of the pipeline wait meanwhile, so the block should take moments. Without a lease nothing is
        checked.

        Raises:
            LeaseLostError: another worker has taken over; the block does not run.
        """
        with self._writing():
            yield

    def _check_tokenless(self) -> None:
        if self._token is not None:
            raise LedgerError(
                f"This worker has acquired pipeline {self.pipeline!r} before. Expected one lease per open ledger; "
                f"received token={self._token}. Release it first, or open the ledger again."
            )

    def _lease_row(self) -> Lease:
        return Lease.model_validate(self._rows(tables.leases)[0])

    def _wait_for_silence(self, seen: Lease, stop: threading.Event) -> Lease:
        """Return the lease once it may be taken: released, its holder dead, or silent for all its ttl."""
        deadline = self._clock.monotonic() + seen.ttl_seconds
        while self._clock.monotonic() < deadline:
            if self._clock.wait(stop, seen.ttl_seconds / _LOOKS_PER_TTL):
                raise UnavailableError(f"Told to stop while waiting for the lease of pipeline {self.pipeline!r}.")
            now = self._lease_row()
            if not _is_held(now):
                return now
            if (now.token, now.beats) != (seen.token, seen.beats):
                raise self._held(now)
        return seen

    def _take(self, seen: Lease, ttl_seconds: float) -> Lease:
        """Take the lease unless it has changed since it was `seen`: compare and swap, in one statement."""
        leases = tables.leases.c
        values = {
            "token": seen.token + 1,
            "holder": holder_of_this_process(),
            "beats": seen.beats + 1,
            "ttl_seconds": ttl_seconds,
            "heartbeat_at": self._clock.now(),
        }
        is_seen = (leases.pipeline == self.pipeline, leases.token == seen.token, leases.beats == seen.beats)
        with self._database.writing() as connection:
            num_taken = connection.execute(update(tables.leases).where(*is_seen).values(values)).rowcount
        if num_taken == 0:
            raise self._held(self._lease_row())
        self._token = seen.token + 1
        return Lease.model_validate(values)

    def _held(self, lease: Lease) -> LeaseHeldError:
        heartbeat = "never" if lease.heartbeat_at is None else f"{lease.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
        return LeaseHeldError(
            f"Pipeline {self.pipeline!r} is being run by another worker. Expected nobody; received "
            f"holder={lease.holder!r}, whose last sign of life was at {heartbeat}. Wait for it, or stop it."
        )


def _is_held(lease: Lease) -> bool:
    return lease.holder is not None and not is_dead(lease.holder)
