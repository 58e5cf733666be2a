"""Name this process so that another one can tell whether it is gone. Whether that gives it a lease is in `leases`."""

import os
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
# A killed process that its parent has not asked about yet is still listed.
_GONE = ("Z", "X", "x")


def holder_of_this_process() -> str:
    """Return `HOST:PID:START`.

    HOST is more than the host's name: containers and cloned machines share names, and only a process that counts its
    process numbers as we do can be looked up. START is in ticks since the machine started, which no change of the
    wall clock moves.
    """
    return f"{_host()}:{os.getpid()}:{_start(os.getpid()) or 0}"


def is_dead(holder: str) -> bool:
    """Tell whether `holder` is certainly gone: a process of this host that ended. Of other hosts nothing is certain."""
    host, pid, start = holder.rsplit(":", 2)
    return host == _host() and _can_look() and _start(int(pid)) != int(start)


@cache
def _host() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
        return f"{socket.gethostname()}/{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _can_look() -> bool:
    return (_PROC / "self/stat").exists()


def _start(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None if there is none.

    Source:
        man 5 proc_pid_stat: field 3 is the state and field 22 `starttime`; field 2, in parentheses, may hold anything.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _GONE else int(fields[19])
