"""A process that is certainly gone, and one that may not be."""

import os
import subprocess
import sys

import pytest

from ledger.holders import holder_of_this_process, is_dead


def test_this_process_is_alive() -> None:
    assert holder_of_this_process() == holder_of_this_process()
    assert not is_dead(holder_of_this_process())


def test_a_process_of_another_host_may_be_alive() -> None:
    host, pid, start = holder_of_this_process().rsplit(":", 2)
    assert not is_dead(f"other{host}:{pid}:{int(start) + 1}")


def test_a_later_process_of_the_same_number_is_another() -> None:
    host, pid, start = holder_of_this_process().rsplit(":", 2)
    assert is_dead(f"{host}:{pid}:{int(start) - 1}")


@pytest.mark.parametrize("is_reaped", [True, False], ids=["gone", "zombie"])
def test_a_killed_process_is_dead(is_reaped: bool) -> None:
    code = "from ledger.holders import holder_of_this_process as it; print(it(), flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        assert not is_dead(holder)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if is_reaped:
            process.wait()
        assert is_dead(holder)
