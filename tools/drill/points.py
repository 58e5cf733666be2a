"""The moments of a worker at which a drill may act, and the calls by which a worker tells of them and waits.

The worker blocks until it is answered, so a scenario acts at exactly that moment: no sleeps, no luck.
"""

import logging
import os
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

# `plan`: a cycle begins. `start`: an executor is about to run. `executed`: it ran, nothing is published. `fenced`: its
# outputs are in ML Metadata, the ledger's fence is still held. `published`: the node is over. `epoch`: an epoch of the
# Trainer is saved. `resumed`: the Trainer goes on behind this epoch. `step`: a step of the record is about to be made.
Kind = Literal["plan", "start", "executed", "fenced", "published", "epoch", "resumed", "step"]
EPOCH_MESSAGE = "Epoch %d: %s"
RESUMED_MESSAGE = "Resuming after epoch %d from %s"


@dataclass(frozen=True)
class Point:
    """One moment of one worker.

    Attributes:
        kind: What is about to happen or has just happened.
        name: Node, step, or number of the epoch.
        run_id: The run; empty before the first plan.
        span: Its span; -1 before the first plan.
    """

    kind: Kind
    name: str
    run_id: str = ""
    span: int = -1

    @property
    def place(self) -> tuple[int, Kind, str]:
        """The point without its run, which every abandoned attempt names anew."""
        return self.span, self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of span {self.span}"


class Reporter:
    """The worker's end of the line.

    Attributes:
        shift_seconds: How far the drill has moved the worker's wall clock.
    """

    def __init__(self, channel: Connection) -> None:
        self.shift_seconds = 0.0
        self._channel = channel
        self._lock = threading.Lock()
        self._run_id = ""
        self._span = -1

    def begin(self, plan: Any) -> None:
        """Tell that the cycle of `plan` begins; what is told from now on belongs to it."""
        self._run_id, self._span = plan.run_id, plan.span.span
        self.tell("plan", plan.trigger)

    def tell(self, kind: Kind, name: str) -> None:
        """Tell of a point and wait until the drill lets this worker go on; end with the drill."""
        with self._lock:
            try:
                self._channel.send(Point(kind, name, self._run_id, self._span))
                self.shift_seconds += self._channel.recv()
            except (EOFError, OSError):
                os._exit(1)

    def observe_trainer(self) -> None:
        """Hear of epochs through the Trainer's log, which is the one thing that it tells while it trains."""
        handler = _EpochHandler(self)
        for name in ("trainer.fit", "trainer.checkpoint"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.INFO)
            logger.addHandler(handler)

    def observe_nodes(self) -> None:
        """Hear of nodes in the one class through which all of them are launched."""
        from pipeline.node_launcher import NodeLauncher

        seams: dict[str, tuple[Kind | None, Kind]] = {
            "_run_executor": ("start", "executed"),
            "_publish_successful_execution": (None, "fenced"),
            "launch": (None, "published"),
        }
        for name, (before, after) in seams.items():
            setattr(NodeLauncher, name, self._told(getattr(NodeLauncher, name), before, after))

    def _told(self, method: Any, before: Kind | None, after: Kind) -> Any:
        def told(node: Any, *arguments: Any) -> Any:
            node_id = node._pipeline_node.node_info.id
            if before is not None:
                self.tell(before, node_id)
            result = method(node, *arguments)
            self.tell(after, node_id)
            return result

        return told


class _EpochHandler(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        kinds: dict[str, Kind] = {EPOCH_MESSAGE: "epoch", RESUMED_MESSAGE: "resumed"}
        if record.msg in kinds and isinstance(record.args, tuple):
            self._reporter.tell(kinds[record.msg], str(record.args[0]))
