"""Gives back what a cycle leaves behind in a process that goes on to the next one."""

import contextlib
import ctypes
import gc


def release_memory() -> None:
    """Free graphs and models that nothing reaches any more, and hand what is free back to the operating system.

    A cycle leaves graphs and models that refer to one another in circles, a few hundred MiB, and
    `pipeline.quiet` keeps Python from looking for such while there is work. Call it between cycles, when nobody waits.
    """
    gc.collect()
    # Not every C library has it; glibc otherwise keeps what is free in between for itself.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
