"""`Worker`: keeps one process warm: starts it, lends it to one job at a time, and replaces it while nothing runs.

A crash or a leak in TensorFlow ends that process, never the daemon. Not in here: what is said to it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from core.errors import ConfigError, StoppedError, UnavailableError, WorkerDiedError
from pipeline.config import Config, RunnerName
from pipeline.health import WorkerStatus
from pipeline.logs import make_log
from pipeline.worker_child import Child
from pipeline.worker_messages import Ready, Setup

TFX_DAG = "pipeline.tfx_dag:TfxDag"
WARM_UP = "pipeline.worker_warm_up:warm_up"


def setup_of(config: Config, runner: RunnerName, *, dag: str = TFX_DAG, warm_up: str | None = WARM_UP) -> Setup:
    """Return what a worker process is told first: to run the TFX DAG, if nothing else is said."""
    return Setup(config=config, runner=runner, dag=dag, warm_up=warm_up)


class Worker:
    """One warm process, and now and then its successor. At most one of them runs a job, and no other is there then.

    A thread of its own starts the processes, since Linux ends a process with the thread that started it.

    Args:
        setup: What every process is told first.
        code_digest: Digest of the sources that the daemon runs; its processes must run the same.
        on_change: Given the process' state whenever it changes.
        echo: Given every line that a process prints.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        code_digest: str,
        on_change: Callable[[WorkerStatus | None], None] = lambda status: None,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._setup = setup
        self._options = setup.config.worker
        self._code_digest = code_digest
        self._on_change = on_change
        self._echo = echo
        self._log = make_log(setup.config.name)
        self._change = threading.Condition()
        self._child: Child | None = None
        self._successor: Child | None = None
        self._failure: Exception | None = None
        self._is_wanted = False
        self._is_closed = False
        self._keeper = threading.Thread(target=self._keep, name="worker", daemon=True)
        self._keeper.start()

    def warm(self) -> None:
        """Start a process now, so that the first job finds it warm."""
        with self._change:
            self._is_wanted = self._child is None and self._successor is None
            self._change.notify_all()

    @contextmanager
    def lent(self) -> Iterator[Child]:
        """Lend the process for a job, once it is warm. If the block raises, the process is ended.

        Raises:
            UnavailableError: it could not be started, or died before it was warm.
            ConfigError: it would run other code than this process does.
        """
        child = self._borrow()
        self._show(child, "busy")
        try:
            yield child
        except BaseException:
            self._drop(child)
            raise
        self._show(child, "idle")

    def rest(self, child: Child) -> None:
        """Take note that a cycle is over; a process that has done enough runs, or has grown too large, is replaced."""
        memory_mb, limit_mb = child.memory_mb, self._options.max_memory_mb
        self._show(child, "idle")
        is_large = memory_mb is not None and limit_mb is not None and memory_mb > limit_mb
        if not is_large and child.num_runs < self._options.recycle_after_runs:
            return
        why = f"it holds {memory_mb:.0f} MB" if is_large else f"it has done {child.num_runs} runs"
        about = {"event": "worker_recycled"}
        self._log.info("Worker process %d is replaced: %s.", child.pid, why, extra=about)
        with self._change:
            self._is_wanted = True
            self._change.notify_all()

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._change:
            self._is_closed = True
            children = [child for child in (self._child, self._successor) if child is not None]
            self._change.notify_all()
        for child in children:
            child.end()
        self._keeper.join()
        self._on_change(None)

    def _borrow(self) -> Child:
        with self._change:
            if self._child is not None and (self._is_wanted or self._successor is not None or not self._child.is_alive):
                # Two that have TensorFlow loaded must not be there while one of them works.
                self._child.end()
                self._child = None
            if self._child is None:
                self._failure = None
                self._is_wanted = self._successor is None
                self._change.notify_all()
                self._change.wait_for(lambda: self._child or self._failure or self._is_closed)
            if self._failure is not None:
                raise self._failure
            if self._child is None:
                raise StoppedError("The worker process was ended, since the daemon stops.")
            return self._child

    def _drop(self, child: Child) -> None:
        """End a process that is of no use any more, and let the next one warm up."""
        child.end()
        with self._change:
            self._child = None
            self._is_wanted = not self._is_closed
            self._change.notify_all()

    def _keep(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._is_wanted or self._is_closed)
                if self._is_closed:
                    return
                self._is_wanted = False
                try:
                    child = self._successor = Child(self._setup, self._echo)
                except OSError as error:
                    self._failure = UnavailableError(f"No worker process can be started: {error.strerror}.")
                    self._change.notify_all()
                    continue
            try:
                self._wait_until_warm(child)
            except (ConfigError, WorkerDiedError) as error:
                self._give_up(child, error)
            else:
                self._take_over(child)

    def _wait_until_warm(self, child: Child) -> None:
        self._show(child, "warming")
        ready = child.receive()
        if not isinstance(ready, Ready):
            raise WorkerDiedError(f"The worker process is expected to say that it is warm; received {ready.kind!r}.")
        if ready.code_digest != self._code_digest:
            raise ConfigError(
                "The code has changed since this daemon began, and a new worker process would run the new one. "
                f"Expected sources with digest {self._code_digest!r}; received {ready.code_digest!r}. "
                "Start the daemon again."
            )

    def _take_over(self, child: Child) -> None:
        with self._change:
            old, self._child, self._successor = self._child, child, None
            self._change.notify_all()
        if old is not None:
            old.end()
        self._show(child, "idle")

    def _give_up(self, child: Child, error: Exception) -> None:
        child.end()
        self.tell_of_death(child, error)
        with self._change:
            self._successor = None
            # No span can be to blame for what happens before it is known, and waiting may help.
            self._failure = (
                error if isinstance(error, ConfigError) else UnavailableError(f"{error} It was not warm yet.")
            )
            self._change.notify_all()

    def tell_of_death(self, child: Child, error: Exception) -> None:
        """Log how a process ended, and what it printed last; not where the daemon ended it."""
        if self._is_closed:
            return
        self._on_change(None)
        about = {"event": "worker_died", "last_lines": child.last_lines()}
        self._log.error("%s Process %d printed last:\n%s", error, child.pid, child.last_lines(), extra=about)

    def _show(self, child: Child, state: Literal["warming", "idle", "busy"]) -> None:
        self._on_change(WorkerStatus(pid=child.pid, state=state, num_runs=child.num_runs, memory_mb=child.memory_mb))
