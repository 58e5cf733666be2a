"""Two workers on one pipeline: started at once, and one that sleeps while the other takes over."""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.drill.drill import EXIT_LEASE_LOST, EXIT_UNAVAILABLE, Drill
from tools.drill.harness import DrillError, Worker
from tools.drill.invariants import wrote_nothing
from tools.drill.points import Kind, Point
from tools.drill.small_pipeline import SmallPipeline

Place = tuple[Kind, str]
# Where a worker falls asleep, and where its successor is when it wakes up; None: the successor is done. One row a
# cycle: in the Trainer, behind a node that nobody has published, and within the record.
_SLEEPS: tuple[tuple[Place, Place | None], ...] = (
    (("epoch", "1"), ("epoch", "4")),
    (("executed", "Evaluator"), None),
    (("executed", "Trainer"), ("start", "Gate")),
    (("step", "promote"), None),
    (("step", "finish_run"), None),
    (("step", "expose"), ("step", "finish_span")),
)


def start_two_workers(drill: Drill) -> None:
    """Start a second worker beside a running one, then kill the first: the next takes over at once."""
    pipeline = drill.harness.make_pipeline("two-workers", num_spans=2 if drill.is_quick else 3)
    with drill.watched(pipeline), Worker(pipeline) as first:
        _go_to(first, "start", "StatisticsGen")
        with Worker(pipeline) as second:
            code = second.finish()
        drill.sheet.counts["workers refused"] += 1
        drill.sheet.expect("the second is refused", code == EXIT_UNAVAILABLE, f"It ended with {code}: {second.text}")
        drill.sheet.expect("it did nothing", not second.seen, f"It was at {second.seen}.")
        drill.sheet.expect("it says why", "worker" in second.text and "Traceback" not in second.text, second.text)
        _go_to(first, "start", "Trainer")
        first.kill()
        drill.sheet.counts["kills"] += 1
        seen = [*first.seen, *drill.run_all(pipeline)]
    drill.check_twin(pipeline, seen)


def freeze_a_worker(drill: Drill) -> None:
    """Freeze a worker until another has taken over; when it wakes up it ends and has written nothing."""
    # As many rows a pipeline as it has cycles.
    num_rows = 1 if drill.is_quick else 2
    for first_row in range(0, 1 if drill.is_quick else len(_SLEEPS), num_rows):
        pipeline = drill.harness.make_pipeline(f"frozen-{first_row}", num_spans=2 if drill.is_quick else 3)
        seen: list[Point] = []
        with drill.watched(pipeline):
            for asleep, awake in _SLEEPS[first_row : first_row + num_rows]:
                seen += _sleep(drill, pipeline, asleep, awake)
            seen += drill.run_all(pipeline)
        drill.check_twin(pipeline, seen)


def _sleep(drill: Drill, pipeline: SmallPipeline, asleep: Place, awake: Place | None) -> list[Point]:
    """Freeze one worker, let another take over, wake the first; return the points of the work that counts."""
    where = f"Asleep at {asleep}, awake at {awake}"
    with Worker(pipeline) as first, _frozen(first, asleep), Worker(pipeline) as second:
        before = list(first.seen)
        drill.sheet.counts["frozen workers"] += 1
        if awake is not None:
            _go_to(second, *awake)
        else:
            drill.sheet.expect("the second takes over", second.finish() == 0, second.text[-2000:])
        # Awake it goes as far as to its next point, and from there when its successor is done.
        with _nothing_written(drill, pipeline):
            first.thaw()
            first.next_point()
        drill.sheet.expect("its successor ends well", second.finish() == 0, f"{where}:\n{second.text[-2000:]}")
        with _nothing_written(drill, pipeline):
            is_told = first.finish() == EXIT_LEASE_LOST and "Traceback" not in first.text
        drill.sheet.expect("a stale worker ends", is_told, f"{where}, {first.exit_code}:\n{first.text[-2000:]}")
    return [*before, *second.seen]


@contextmanager
def _nothing_written(drill: Drill, pipeline: SmallPipeline) -> Iterator[None]:
    """Check that a block, in which a stale worker alone is awake, changes nothing that counts."""
    before = drill.harness.facts(pipeline)
    yield
    drill.sheet.check(wrote_nothing.__name__, wrote_nothing(before, drill.harness.facts(pipeline)))


@contextmanager
def _frozen(worker: Worker, place: Place) -> Iterator[None]:
    """Bring a worker to a place and freeze it there, about to go on."""
    _go_to(worker, *place)
    worker.freeze()
    worker.let_go()
    try:
        yield
    finally:
        worker.thaw()


def _go_to(worker: Worker, kind: Kind, name: str) -> None:
    if worker.run_until(lambda point: (point.kind, point.name) == (kind, name)) is None:
        raise DrillError(f"A worker never came to {kind} {name}:\n{worker.text[-2000:]}")
