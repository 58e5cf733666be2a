"""Cron expressions as everybody writes them, and as Kubeflow Pipelines reads them, with the seconds as first field."""

import re
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from core.errors import ConfigError

_NUM_FIELDS = 5
# What both know. Kubeflow Pipelines reads neither L, W and # nor descriptors such as @daily.
_FIELD = re.compile(r"^[0-9A-Za-z*/,-]+$")
_LAST_OR_NEAREST = re.compile(r"(^|[,0-9-])[LW]($|,)")
_SUNDAY = re.compile(r"(?<![0-9])7(?![0-9])")


def six_fields(expression: str) -> str:
    """Return five cron fields as the six that Kubeflow Pipelines takes.

    Raises:
        ConfigError: the expression cannot be read, never fires, or uses what only other crons know.

    Example:
        >>> six_fields("0 3 * * 1")
        '0 0 3 * * 1'
    """
    fields = expression.split()
    try:
        if len(fields) != _NUM_FIELDS:
            raise CronSimError(f"{len(fields)} fields")
        next(CronSim(expression, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        raise _unreadable(expression, str(error) or "it never fires") from error
    for field in fields:
        if not _FIELD.match(field) or _LAST_OR_NEAREST.search(field):
            raise _unreadable(expression, f"Kubeflow Pipelines does not read {field!r}")
    if _SUNDAY.search(fields[-1]):
        raise _unreadable(expression, "Kubeflow Pipelines calls Sunday 0 or SUN, not 7")
    return " ".join(("0", *fields))


def next_times(expression: str, now: datetime, count: int) -> tuple[datetime, ...]:
    """Return the next times at which five cron fields fire, in UTC."""
    times = CronSim(expression, now.astimezone(UTC))
    return tuple(time for time, _ in zip(times, range(count), strict=False))


def _unreadable(expression: str, why: str) -> ConfigError:
    return ConfigError(
        f"Cron expression {expression!r} cannot be used: {why}. Expected five fields (minute, hour, day of month, "
        "month, day of week) such as '0 3 * * 1' for Mondays at 03:00. Correct --cron."
    )
