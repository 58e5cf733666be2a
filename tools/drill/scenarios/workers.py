"""Two workers on one pipeline: started at once, and one that sleeps while the other takes over."""

from tools.drill.drill import EXIT_LEASE_LOST, EXIT_UNAVAILABLE, Drill
from tools.drill.harness import DrillError, Worker
from tools.drill.invariants import wrote_nothing
from tools.drill.points import Kind, Point
from tools.drill.small_pipeline import SmallPipeline

# Where a worker falls asleep, one place a cycle: in a node, behind one that nobody has published, and within the
# record.
_SLEEPS: tuple[tuple[Kind, str], ...] = (
    ("executed", "Trainer"),
    ("epoch", "2"),
    ("step", "promote"),
    ("step", "finish_run"),
    ("start", "Pusher"),
    ("step", "expose"),
)


def start_two_workers(drill: Drill) -> None:
    """Start a second worker beside a running one, then kill the first: the next takes over at once."""
    pipeline = drill.make_pipeline("two-workers")
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
    """Freeze a worker until another has finished its cycle; when it wakes up it ends and has written nothing."""
    # Two places in every drill; a pipeline has three cycles at most, so the others are tried on pipelines of their own.
    pairs = [_SLEEPS[:2]] if drill.is_quick else [_SLEEPS[:2], _SLEEPS[2:4], _SLEEPS[4:]]
    for number, places in enumerate(pairs):
        pipeline = drill.make_pipeline(f"frozen-{number}")
        seen: list[Point] = []
        with drill.watched(pipeline):
            for kind, name in places:
                seen += _sleep_through_a_cycle(drill, pipeline, kind, name)
            seen += drill.run_all(pipeline)
        drill.check_twin(pipeline, seen)


def _sleep_through_a_cycle(drill: Drill, pipeline: SmallPipeline, kind: Kind, name: str) -> list[Point]:
    """Freeze one worker at a point, let another finish the cycle, wake the first; return what the runs told of."""
    with Worker(pipeline) as first:
        _go_to(first, kind, name)
        before = list(first.seen)
        first.freeze()
        first.let_go()
        drill.sheet.counts["frozen workers"] += 1
        with Worker(pipeline) as second:
            code = second.finish()
        drill.sheet.expect("the second takes over", code == 0, f"Exit code {code}:\n{second.text[-2000:]}")
        then = drill.harness.facts(pipeline)
        first.thaw()
        code = first.finish()
        where = f"Woken up behind {kind} {name}"
        drill.sheet.expect(
            "a stale worker ends", code == EXIT_LEASE_LOST, f"{where}, exit code {code}:\n{first.text[-2000:]}"
        )
        drill.sheet.check(wrote_nothing.__name__, wrote_nothing(then, drill.harness.facts(pipeline)))
    return [*before, *second.seen]


def _go_to(worker: Worker, kind: Kind, name: str) -> None:
    if worker.run_until(lambda point: (point.kind, point.name) == (kind, name)) is None:
        raise DrillError(f"A worker never came to {kind} {name}:\n{worker.text[-2000:]}")
