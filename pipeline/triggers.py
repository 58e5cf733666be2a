"""When to run what: a pure function of options, of what is known, and of the time. Nothing is read, written or started."""

from datetime import datetime

from pipeline.policies import TriggerOptions
from pipeline.ticks import Tick, TriggerView


def tick(options: TriggerOptions, view: TriggerView, now: datetime) -> Tick:
    """Return what to do now, and when to look again.

    Args:
        options: The policies.
        view: What is known.
        now: Wall time, in UTC.
    """
    raise NotImplementedError(options, view, now)
