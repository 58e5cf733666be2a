"""The worker process: keeps TensorFlow, TFX and traced functions loaded, and runs the DAGs that the daemon sends.

`python -m pipeline.worker_process PARENT READ WRITE` with the daemon's process id and the numbers of two open pipes. It
ends with the pipe, and with the daemon. Not in here: what is decided, recorded or fenced, which stays there.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from core.functions import load_function
from pipeline.cycle import Dag
from pipeline.memory import release_memory
from pipeline.quiet import quiet_libraries
from pipeline.worker_messages import (
    TO_PROCESS,
    Answer,
    Ask,
    Done,
    Moment,
    OutcomeJob,
    Ready,
    RunJob,
    Setup,
    ToProcess,
    WireError,
)
from schemas.base import Record

# Of Linux' sys/prctl.h: the signal that a process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


class Line:
    """This process' end of the pipes; one thread at a time has an exchange on it.

    Args:
        reads: What the daemon writes to.
        writes: What the daemon reads.
    """

    def __init__(self, reads: IO[bytes], writes: IO[bytes]) -> None:
        self._reads = reads
        self._writes = writes
        self._received: queue.Queue[ToProcess] = queue.Queue()
        # Nodes run side by side. The daemon serves one at a time, and nobody else while one is inside the fence.
        self._turn = threading.RLock()
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def receive(self) -> ToProcess:
        """Wait for the next message."""
        return self._received.get()

    def send(self, message: Record) -> None:
        """Send a message."""
        self._writes.write(message.model_dump_json().encode() + b"\n")
        self._writes.flush()

    def ask(self, ask: Ask) -> None:
        """Tell the observer of something, and wait until it has heard.

        Raises:
            PipelineError: what the observer raised.
        """
        with self._turn:
            self.send(ask)
            answer = self.receive()
            if not isinstance(answer, Answer):
                raise TypeError(f"An answer is expected while a node waits for one; received {answer.kind!r}.")
            if answer.error is not None:
                raise answer.error.raised()

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Hold the daemon's fence for a block; other nodes wait meanwhile."""
        with self._turn:
            self.ask(Ask(moment="enter_fence"))
            try:
                yield
            except BaseException:
                self.ask(Ask(moment="leave_fence", is_failed=True))
                raise
            self.ask(Ask(moment="leave_fence"))

    def _read(self) -> None:
        try:
            for line in self._reads:
                self._received.put(TO_PROCESS.validate_json(line))
        finally:
            # Nobody is there any more, or nobody whom this code understands.
            os._exit(0)


class RemoteObserver:
    """Whoever observes the DAG, in the other process."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def check(self, node_id: str) -> None:
        """Ask whether the node may begin."""
        self._tell("check", node_id)

    def node_started(self, node_id: str) -> None:
        """Tell that the node begins."""
        self._tell("node_started", node_id)

    def node_finished(self, node_id: str) -> None:
        """Tell that the node's outputs are recorded."""
        self._tell("node_finished", node_id)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Hold the ledger's fence for a block."""
        with self._line.fenced():
            yield

    def _tell(self, moment: Moment, node_id: str) -> None:
        self._line.ask(Ask(moment=moment, node_id=node_id))


def serve(line: Line) -> None:
    """Do one job after another, for as long as the daemon lives."""
    setup = line.receive()
    if not isinstance(setup, Setup):
        raise TypeError(f"The setup is expected first; received {setup.kind!r}.")
    dag: Dag = load_function(setup.dag)(setup.config, setup.runner)
    if setup.warm_up is not None:
        load_function(setup.warm_up)(setup.config)
    line.send(Ready(code_digest=dag.code_digest))
    while True:
        job = line.receive()
        line.send(_done(dag, job, RemoteObserver(line)))
        if isinstance(job, OutcomeJob):  # a cycle's last; after any other somebody waits for the next
            release_memory()


def _done(dag: Dag, job: ToProcess, observer: RemoteObserver) -> Done:
    try:
        if isinstance(job, RunJob):
            dag.run(job.plan, observer)
            return Done()
        if isinstance(job, OutcomeJob):
            return Done(outcome=dag.outcome(job.plan, first_version=job.first_version, trained=job.trained))
        raise TypeError(f"A job is expected; received {job.kind!r}.")
    except Exception as error:
        wire = WireError.of(error)
        if wire.error_class is None:
            # The other process has no traceback to show; this one's last lines are in its log.
            traceback.print_exc()
        return Done(error=wire)


def _live_and_die_with(parent_pid: int) -> None:
    """Leave signals to the daemon, which decides what stops and when, and end with it, whatever ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A function, not SIG_IGN, which the processes that Beam starts would inherit.
        signal.signal(number, lambda *_: None)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(0)


def main() -> None:
    """Serve the daemon whose process id and pipes are the arguments."""
    parent_pid, reads, writes = (int(argument) for argument in sys.argv[1:])
    _live_and_die_with(parent_pid)
    for descriptor in (reads, writes):
        # Else a process that a node starts would keep the pipe open.
        os.set_inheritable(descriptor, False)
    # As the command line does: a user's own functions may lie in the working directory.
    sys.path.append(os.getcwd())
    quiet_libraries()
    with open(reads, "rb") as reading, open(writes, "wb") as writing:
        serve(Line(reading, writing))


if __name__ == "__main__":
    main()
