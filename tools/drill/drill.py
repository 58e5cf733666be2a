"""What every scenario gets: pipelines to break, an undisturbed twin to compare with, and a sheet for the results."""

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from tools.drill.facts import Facts
from tools.drill.harness import DrillError, Harness, Worker
from tools.drill.invariants import ALONE, AS_TWIN, every_epoch_was_trained_once, serving_was_never_half
from tools.drill.points import Point
from tools.drill.small_pipeline import CONFIG, SmallPipeline
from tools.drill.twin import Twin

NUM_EPOCHS = int(CONFIG["training"]["epochs_cold"])
# More attempts than any scenario needs: there are about 60 nodes and steps in three cycles, with four points each.
MAX_ATTEMPTS = 500
# Exit code of what may pass by itself (EX_TEMPFAIL), and of a worker that was taken for dead.
EXIT_UNAVAILABLE = 75
EXIT_LEASE_LOST = 9
Disturbance = Callable[[Worker, Point], bool]


@dataclass
class Sheet:
    """What one scenario did and found.

    Attributes:
        counts: What was done, e.g. kills and attempts.
        checked: How often each invariant was looked at, by its name.
        violations: Sentences; empty where all held.
        skipped: Why the scenario could not run; None if it ran.
    """

    scenario: str
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def word(self) -> str:
        """How it ended."""
        if self.skipped is not None:
            return f"SKIPPED: {self.skipped}"
        return "VIOLATED" if self.violations else "holds"

    def check(self, name: str, violations: list[str]) -> None:
        """Note that an invariant was looked at, and what it said."""
        self.checked[name] += 1
        self.violations += [f"{name}: {sentence}" for sentence in violations]

    def expect(self, name: str, is_so: bool, otherwise: str) -> None:
        """Note that something was looked at, and the sentence if it is not so."""
        self.check(name, [] if is_so else [otherwise])


@dataclass
class Drill:
    """All that a scenario works with.

    Attributes:
        harness: Makes pipelines and workers.
        twin: What undisturbed cycles leave.
        is_quick: Fewer spans and fewer kills.
        num_kills: Kills at random moments.
        random: Source of every choice, so that a seed repeats a drill up to the machine's own timing.
        sheet: What comes out.
    """

    harness: Harness
    twin: Twin
    is_quick: bool
    num_kills: int
    random: Random
    sheet: Sheet

    def run(self, scenario: Callable[["Drill"], None]) -> Sheet:
        """Run one scenario and return its sheet; a drill that cannot go on is a violation too."""
        started = time.monotonic()
        try:
            scenario(self)
        except DrillError as error:
            self.sheet.violations.append(str(error))
        except Exception:
            # What is broken in one scenario must not hide what the others find.
            self.sheet.violations.append(traceback.format_exc())
        self.sheet.seconds = time.monotonic() - started
        return self.sheet

    def attempt(self, pipeline: SmallPipeline, disturb: Disturbance, *, shift_seconds: float = 0.0) -> Worker:
        """Run one worker; at each of its points `disturb` does what it likes, and tells whether that was the end."""
        self.sheet.counts["attempts"] += 1
        with Worker(pipeline, shift_seconds=shift_seconds) as worker:
            for point in worker.points():
                if disturb(worker, point):
                    break
        return worker

    def run_all(
        self,
        pipeline: SmallPipeline,
        disturb: Disturbance = lambda worker, point: False,
        *,
        allowed: Container[int] = (0, -signal.SIGKILL),
    ) -> list[Point]:
        """Start worker after worker until none finds anything to do; return all points that they told of.

        Args:
            pipeline: Whose cycles to run.
            disturb: Called at every point; returns True if it has ended the worker.
            allowed: Exit codes that are no violation.
        """
        seen: list[Point] = []
        for _ in range(MAX_ATTEMPTS):
            worker = self.attempt(pipeline, disturb)
            seen += worker.seen
            if worker.exit_code not in allowed:
                raise DrillError(f"A worker ended with exit code {worker.exit_code}:\n{worker.text[-3000:]}")
            if worker.exit_code == 0 and not worker.seen:
                return seen
        raise DrillError(f"After {MAX_ATTEMPTS} attempts there was still something to do.")

    def check_alone(self, pipeline: SmallPipeline) -> Facts:
        """Hold a pipeline that is at rest against all that must hold of one; return what it left."""
        facts = self.harness.facts(pipeline)
        for invariant in ALONE:
            self.sheet.check(invariant.__name__, invariant(facts))
        return facts

    def check_twin(self, pipeline: SmallPipeline, seen: list[Point]) -> None:
        """Hold a pipeline whose spans are all done against its twin."""
        facts = self.check_alone(pipeline)
        twin = self.twin.facts(len(facts.spans))
        for invariant in AS_TWIN:
            self.sheet.check(invariant.__name__, invariant(facts, twin))
        self.sheet.check(
            every_epoch_was_trained_once.__name__, every_epoch_was_trained_once(seen, num_epochs=NUM_EPOCHS)
        )
        code, text = self.harness.command(pipeline, "run", "--next")
        self.sheet.expect("the command finds nothing to do", code == 0, f"It ended with {code}: {text[-1000:]}")

    @contextmanager
    def watched(self, pipeline: SmallPipeline) -> Iterator[None]:
        """Watch the serving folder for as long as the block lasts, and note what was seen."""
        with self.harness.watched(pipeline) as watcher:
            yield
        self.sheet.check(serving_was_never_half.__name__, serving_was_never_half(watcher))
        self.sheet.counts["looks at serving"] += watcher.num_looks
