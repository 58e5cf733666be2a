"""`kill -9`, at every point that a worker passes, and at moments that nobody chose."""

from tools.drill.drill import Drill
from tools.drill.harness import Worker
from tools.drill.points import Kind, Point

# Where a cycle can be cut: before an executor, behind it, behind its publication, behind the node, and before each step
# of the record. An epoch of the Trainer is a point as well.
_KINDS: frozenset[Kind] = frozenset({"start", "executed", "fenced", "published", "epoch", "step"})
# One cut of each kind, for a drill that must be quick.
_QUICK_PLACES = frozenset(
    {
        ("executed", "ExampleValidator"),
        ("fenced", "Trainer"),
        ("epoch", "2"),
        ("start", "Evaluator"),
        ("published", "Gate"),
    }
)


def kill_at_every_point(drill: Drill) -> None:
    """Kill a worker the first time that any of them reaches a point, at each point of all cycles."""
    pipeline = drill.harness.make_pipeline("kill-points", num_spans=3 if drill.is_quick else 4)
    killed = set()

    def kill(worker: Worker, point: Point) -> bool:
        if point.place in killed or not _is_wanted(point, drill.is_quick):
            return False
        killed.add(point.place)
        worker.kill()
        drill.sheet.counts["kills"] += 1
        drill.sheet.counts[f"kills at {point.kind}"] += 1
        return True

    with drill.watched(pipeline):
        seen = drill.run_all(pipeline, kill)
    drill.check_twin(pipeline, seen)
    resumed = sum(point.kind == "resumed" for point in seen)
    drill.sheet.counts["trainings resumed"] += resumed
    drill.sheet.expect("trainings were resumed", resumed > 0, "No Trainer went on from a checkpoint.")


def _is_wanted(point: Point, is_quick: bool) -> bool:
    if is_quick:
        return point.kind == "step" or (point.kind, point.name) in _QUICK_PLACES
    return point.kind in _KINDS


def kill_at_random_moments(drill: Drill) -> None:
    """Kill workers after times drawn by chance, mostly inside nodes."""
    pipeline = drill.harness.make_pipeline("kill-random", num_spans=4)
    # Long enough that the slowest node gets through now and then.
    delays = [drill.random.uniform(0.2, 15.0) for _ in range(drill.num_kills)]

    def kill(worker: Worker, point: Point) -> bool:
        if not delays:
            return False
        if worker.run_for(delays.pop()):
            drill.sheet.counts["kills"] += 1
            drill.sheet.counts[f"kills in {worker.seen[-1].name}"] += 1
        worker.kill()
        return True

    with drill.watched(pipeline):
        seen = drill.run_all(pipeline, kill)
    drill.check_twin(pipeline, seen)
