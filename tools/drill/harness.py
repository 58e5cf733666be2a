"""Starts workers, acts on them at their points, and looks at what they left. Knows no scenario."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tools.drill.facts import Facts, read_facts
from tools.drill.points import Point
from tools.drill.small_pipeline import NUM_SPANS, SmallPipeline, make_small_pipeline
from tools.drill.watcher import ServingWatcher
from tools.drill.worker import ingest_spans, run_command, run_next

# A worker that says nothing for so long hangs: no node of the small pipeline takes a tenth of it.
MAX_SILENCE_SECONDS = 300.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tools.drill.preload"])


class DrillError(Exception):
    """The drill itself cannot go on: a worker hangs, or failed where nothing was done to it."""


class Worker:
    """One process that runs `perennial run --next`, held at every point until it is let go.

    Args:
        pipeline: Whose next cycle it runs.
        shift_seconds: How far its wall clock is off.

    Attributes:
        log_file: What it printed.
        seen: The points it has passed or stands at.
    """

    def __init__(self, pipeline: SmallPipeline, *, shift_seconds: float = 0.0) -> None:
        number = len(list(pipeline.folder.glob("worker-*.log")))
        self.log_file = pipeline.folder / f"worker-{number:03d}.log"
        self.log_file.touch()
        self.seen: list[Point] = []
        self._jump_seconds = 0.0
        self._is_held = False
        self._channel, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=run_next, args=(pipeline.config_file, theirs, self.log_file, shift_seconds)
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._channel.close()

    def points(self) -> Iterator[Point]:
        """Yield every point as the worker reaches it; it goes on when the next one is asked for, if it still can."""
        while (point := self.next_point()) is not None:
            yield point

    def next_point(self, timeout_seconds: float = MAX_SILENCE_SECONDS) -> Point | None:
        """Let the worker go on to its next point; None when it has ended.

        Raises:
            DrillError: it did neither in time.
        """
        self.let_go()
        if not self._channel.poll(timeout_seconds):
            raise DrillError(f"A worker has been silent for {timeout_seconds:g} s; see {self.log_file}.")
        return self._hear()

    def _hear(self) -> Point | None:
        try:
            point: Point = self._channel.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return None
        self._is_held = True
        self.seen.append(point)
        return point

    def let_go(self) -> None:
        """Let the worker leave the point it stands at, without waiting for its next one."""
        if self._is_held:
            self._is_held = False
            with suppress(BrokenPipeError, ConnectionResetError):
                self._channel.send(self._jump_seconds)
            self._jump_seconds = 0.0

    def jump(self, seconds: float) -> None:
        """Move the worker's wall clock when it leaves the point it stands at."""
        self._jump_seconds += seconds

    def run_until(self, is_wanted: Callable[[Point], bool]) -> Point | None:
        """Go on to the first point that is wanted; None when the worker ended before."""
        return next((point for point in self.points() if is_wanted(point)), None)

    def run_for(self, seconds: float) -> bool:
        """Let it run for some time, wherever that leads; tell whether it is still there."""
        deadline = time.monotonic() + seconds
        self.let_go()
        while (left := deadline - time.monotonic()) > 0:
            if self._channel.poll(left) and self._hear() is None:
                return False
            self.let_go()
        return True

    def finish(self) -> int:
        """Let it run to its end; return its exit code."""
        for _ in self.points():
            pass
        return self.exit_code

    def kill(self) -> None:
        """`kill -9`, at once."""
        if self._process.is_alive():
            os.kill(self._pid, signal.SIGKILL)
            # What it told last was true, though nobody heard it in time.
            while self._hear() is not None:
                pass
        self._process.join()

    def freeze(self) -> None:
        """`kill -STOP`: the process sleeps, its threads with it, and does not know."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """`kill -CONT`, where there is anybody."""
        if self._process.is_alive():
            os.kill(self._pid, signal.SIGCONT)

    @property
    def exit_code(self) -> int:
        """How it ended; negative for a signal."""
        self._process.join()
        return int(self._process.exitcode or 0)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def _pid(self) -> int:
        if self._process.pid is None:
            raise DrillError("The worker has not been started.")
        return self._process.pid


class Harness:
    """A folder for pipelines, and how to run, read and watch them.

    Args:
        folder: An empty folder for all that the drill makes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._spans = folder / "ingested" / "root" / "spans"

    def ingest(self) -> None:
        """Ingest the spans that every pipeline gets a copy of."""
        empty = make_small_pipeline(self.folder / "ingested", self.folder, num_spans=0)
        self.call(ingest_spans, empty.config_file, range(1, NUM_SPANS + 1))

    def make_pipeline(self, name: str, **changes: Any) -> SmallPipeline:
        """Make a pipeline with spans that no cycle has seen; keyword arguments are those of `make_small_pipeline`."""
        return make_small_pipeline(self.folder / name, self._spans, **changes)

    def add_span(self, pipeline: SmallPipeline, span: int) -> None:
        """Let one more span arrive."""
        (source,) = self._spans.glob(f"*{span:06d}")
        shutil.copytree(source, pipeline.config.spans_path / source.name)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in a fresh process and return what it returns.

        Raises:
            DrillError: it failed.
        """
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_answer, args=(theirs, function, arguments))
        process.start()
        theirs.close()
        try:
            answer = ours.recv()
        except EOFError:
            process.join()
            raise DrillError(f"{function.__name__} failed with exit code {process.exitcode}.") from None
        process.join()
        return answer

    def command(self, pipeline: SmallPipeline, *arguments: str) -> tuple[int, str]:
        """Run a command of `perennial` on a pipeline; return its exit code and what it printed."""
        log_file = pipeline.folder / "command.log"
        log_file.write_text("", encoding="utf-8")
        options = [*arguments, "--config", str(pipeline.config_file)]
        process = _CONTEXT.Process(target=run_command, args=(options, log_file))
        process.start()
        process.join()
        return int(process.exitcode or 0), log_file.read_text(encoding="utf-8")

    def run_cycle(self, pipeline: SmallPipeline) -> Worker:
        """Run the next cycle undisturbed.

        Raises:
            DrillError: it failed.
        """
        with Worker(pipeline) as worker:
            if worker.finish() != 0:
                raise DrillError(f"An undisturbed cycle failed:\n{worker.text[-3000:]}")
        return worker

    def facts(self, pipeline: SmallPipeline) -> Facts:
        """Return everything that the pipeline's workers left."""
        facts: Facts = self.call(read_facts, pipeline.config_file)
        return facts

    @contextmanager
    def watched(self, pipeline: SmallPipeline) -> Iterator[ServingWatcher]:
        """Watch what serving can see for as long as the block lasts."""
        watcher = ServingWatcher(pipeline.config)
        watcher.start()
        try:
            yield watcher
        finally:
            watcher.stop()


def _answer(channel: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    channel.send(function(*arguments))


def wait_until(is_so: Callable[[], bool], timeout_seconds: float) -> bool:
    """Wait until something is so; tell whether it came true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
