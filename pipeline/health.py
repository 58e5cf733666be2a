"""What the daemon answers over HTTP: whether it is alive, whether it is ready, what it does. It takes no orders.

In here: the record of its state, and a server for it. Who keeps the record is `daemon.py`.
"""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from pydantic import AwareDatetime

from core.clock import Clock
from pipeline.logs import hide_credentials
from pipeline.ticks import Running
from schemas.base import Record

LOOPBACK = "127.0.0.1"

DaemonState = Literal["starting", "standby", "idle", "running", "backing_off", "stopping"]


class LastCycle(Record):
    """How the last cycle ended; `outcome` is None where it stopped or failed, for `error`."""

    run_id: str | None = None
    span: int | None = None
    outcome: str | None = None
    error: str | None = None
    at: AwareDatetime


class WorkerStatus(Record):
    """The worker process, for people.

    Attributes:
        state: `warming` until it may run a job at once.
        num_runs: Runs that it has done.
        memory_mb: Its resident size after the last of them, in megabytes.
    """

    pid: int
    state: Literal["warming", "idle", "busy"]
    num_runs: int = 0
    memory_mb: float | None = None


class DaemonStatus(Record):
    """What `/status` shows.

    Attributes:
        state: `standby` waits for the lease; `backing_off` waits before it tries again what failed.
        holder: Who holds the lease, while that is another worker.
        problem: Why it is not ready; None: it is.
        running: The cycle that runs.
        node: The node of it that runs.
        waits_for: Why nothing runs.
        next_wake: When time alone will change that.
        alerts: Sentences for people, e.g. on spans that are overdue.
        last_cycle: How the last cycle ended.
        looked_at: When it looked last.
        worker: The process in which cycles run; None: there is none now.
    """

    pipeline: str
    state: DaemonState = "starting"
    holds_lease: bool = False
    holder: str | None = None
    problem: str | None = "The daemon has not looked yet."
    running: Running | None = None
    node: str | None = None
    waits_for: str = ""
    next_wake: AwareDatetime | None = None
    alerts: tuple[str, ...] = ()
    last_cycle: LastCycle | None = None
    looked_at: AwareDatetime | None = None
    worker: WorkerStatus | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it would run what is due."""
        return self.holds_lease and self.problem is None


class Board:
    """The daemon's state, written by its threads and read by the server's.

    Args:
        pipeline: Name of the pipeline.
        clock: Measures whether the loop still turns.
    """

    def __init__(self, pipeline: str, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._status = DaemonStatus(pipeline=pipeline)
        self._expected_by = float("inf")

    @property
    def status(self) -> DaemonStatus:
        """The state as of now."""
        return self._status

    def update(self, **changes: Any) -> None:
        """Change some of it."""
        with self._lock:
            self._status = DaemonStatus.model_validate({**dict(self._status), **changes})

    def expect_life_within(self, seconds: float) -> None:
        """Count the loop as dead if it has not called this again in so many seconds."""
        self._expected_by = self._clock.monotonic() + seconds

    @property
    def is_live(self) -> bool:
        """Whether the loop turns."""
        return self._clock.monotonic() <= self._expected_by


class HealthServer:
    """Answers GET on `/healthz`, `/readyz` and `/status`, from threads of its own.

    Args:
        board: What it shows.
        port: Where; 0: any free one.
        host: Address to listen on. Nobody is asked who he is, so anything but loopback is for a pod's own network.
    """

    def __init__(self, board: Board, port: int, host: str = LOOPBACK) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(board))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def _serve(self) -> None:
        # How soon `stop` is noticed, in seconds.
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """End it."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def answer(board: Board, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
    """Return status code and document for a path."""
    status = board.status
    if path == "/healthz":
        return _code(board.is_live), {"live": board.is_live}
    if path == "/readyz":
        return _code(status.is_ready), {"ready": status.is_ready, "state": status.state, "problem": status.problem}
    if path == "/status":
        return HTTPStatus.OK, status.model_dump(mode="json")
    return HTTPStatus.NOT_FOUND, {"error": f"No such page: {path}. Expected /healthz, /readyz or /status."}


def _code(is_well: bool) -> HTTPStatus:
    return HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE


def _handler(board: Board) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request; methods other than GET are answered by 501, as the base class does."""

        server_version, sys_version = "perennial", ""
        # A client that sends nothing must not keep a thread for ever.
        timeout = 10

        def do_GET(self) -> None:
            code, document = answer(board, self.path.partition("?")[0])
            content = (hide_credentials(json.dumps(document)) + "\n").encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler
