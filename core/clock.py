"""Time as a thing that is passed in: everything that waits, measures or stamps asks a `Clock`.

In here: the protocol, the system's clock, and one that tests move by hand. Not in here: what any time means.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Wall time may jump, monotonic time never does."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary moment; only differences mean anything."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; tell whether it is set."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since the machine started."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; tell whether it is set."""
        return event.wait(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when it is told to, or when somebody waits on it: a year passes in milliseconds.

    Args:
        start: Wall time to begin at, in UTC.

    Example:
        >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        >>> clock.wait(threading.Event(), 3600)
        False
        >>> clock.now().isoformat(), clock.monotonic()
        ('2026-01-01T01:00:00+00:00', 3600.0)
    """

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since the clock was made; a jump does not count."""
        return self._monotonic

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let `seconds` pass at once unless `event` is set; tell whether it is set."""
        if not event.is_set():
            self.advance(max(0.0, seconds))
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Move the wall time alone, forward or back, as an administrator or a broken clock does."""
        self._now += timedelta(seconds=seconds)
