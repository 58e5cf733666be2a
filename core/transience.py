"""Tell a failure that may pass by itself from one that will not. What to do about it is decided elsewhere."""

import errno
from collections.abc import Iterator

# A disk without room, a network file system that went away, a device that does not answer.
_PASSING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
    }
)
# TensorFlow, Beam, HDF5 and SQLite hand on the text of an error without its number.
_PHRASES = ("No space left on device", "Disk quota exceeded", "database or disk is full", "Stale file handle")


def why_transient(error: BaseException) -> str | None:
    """Return what may pass by itself, anywhere in the chain of causes, or None for a failure that will not.

    Example:
        >>> why_transient(OSError(errno.ENOSPC, "No space left on device"))
        'No space left on device'
        >>> why_transient(ValueError("wrong")) is None
        True
    """
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return cause.strerror or str(cause)
        for phrase in _PHRASES:
            if phrase in str(cause):
                return phrase
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
