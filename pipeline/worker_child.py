"""`Child`: the worker process as the daemon sees it: started, spoken to, measured, killed, and what it said last."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable

import psutil

from core.errors import WorkerDiedError
from pipeline.worker_messages import FROM_PROCESS, FromProcess, Setup, ToProcess

# Of what the process printed: enough for a traceback, or for what a crash handler says of each thread.
MAX_LAST_LINES = 40
# What a process that was sent SIGKILL may take until it is gone, in seconds.
_MAX_DYING_SECONDS = 10.0
_BYTES_PER_MB = 1024 * 1024


class Child:
    """One worker process.

    It must be started by a thread that lives as long as the process shall: Linux ends it with that thread.

    Attributes:
        pid: Its process id.
        num_runs: Runs that it has done.

    Args:
        setup: What it is told first.
        echo: Given every line that it or a library in it prints.
    """

    def __init__(self, setup: Setup, echo: Callable[[str], None]) -> None:
        self.num_runs = 0
        self._echo = echo
        self._last_lines: deque[str] = deque(maxlen=MAX_LAST_LINES)
        # Libraries print to the standard streams, so the messages have pipes of their own.
        child_reads, to_child = os.pipe()
        from_child, child_writes = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-u", "-X", "faulthandler", "-m", "pipeline.worker_process"),
                    *map(str, (os.getpid(), child_reads, child_writes)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(child_reads, child_writes),
                # The modules of this process, wherever it has them from.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # Away from the terminal's process group: ctrl-C is for this process to decide about.
                start_new_session=True,
            )
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self.pid = self._process.pid
        self._writes = open(to_child, "wb")  # noqa: SIM115  # closed by `end`
        self._reads = open(from_child, "rb")  # noqa: SIM115  # closed by `end`
        self._printed = threading.Thread(target=self._keep_lines, name="worker output", daemon=True)
        self._printed.start()
        self.send(setup)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def memory_mb(self) -> float | None:
        """Its resident size in megabytes; None: it is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / _BYTES_PER_MB
        except psutil.Error:
            return None

    def send(self, message: ToProcess) -> None:
        """Send it a message; a process that is gone is noticed by who waits for the answer."""
        try:
            self._writes.write(message.model_dump_json().encode() + b"\n")
            self._writes.flush()
        except BrokenPipeError:
            return

    def receive(self) -> FromProcess:
        """Wait for its next message.

        Raises:
            WorkerDiedError: it is gone, or sent what is no message and was ended for that.
        """
        try:
            line = self._reads.readline()
        except ValueError:
            # It was ended by another thread, and its pipe closed.
            line = b""
        if not line.endswith(b"\n"):
            raise WorkerDiedError(f"The worker process {self._how_it_ended()}.")
        try:
            return FROM_PROCESS.validate_json(line)
        except ValueError as error:
            self.end()
            raise WorkerDiedError(
                f"The worker process sent what is no message and was ended. Received {line[:80]!r}."
            ) from error

    def end(self) -> None:
        """Kill it, at whatever it is, and release what it held. It may be ended twice."""
        if self._process.poll() is None:
            # With the processes that its nodes have started.
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(_MAX_DYING_SECONDS)
        self._printed.join(_MAX_DYING_SECONDS)
        for stream in (self._writes, self._reads):
            try:
                stream.close()
            except BrokenPipeError:
                # What it never read lies in the buffer still.
                continue

    def last_lines(self) -> str:
        """Return what it printed last."""
        return "\n".join(self._last_lines)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_MAX_DYING_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return "closed its pipe and was ended"
        # What it printed last may still be on its way.
        self._printed.join(_MAX_DYING_SECONDS)
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = ", which the kernel sends where memory is short" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"

    def _keep_lines(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as printed:
            for line in printed:
                text = line.decode(errors="replace").rstrip("\n")
                self._last_lines.append(text)
                self._echo(text)
