"""A wall clock that jumps, by hours and days, forward and back."""

from tools.drill.drill import Drill
from tools.drill.harness import Worker
from tools.drill.points import Point

MAX_JUMP_SECONDS = 72 * 3600.0
# Of the points at which the clock jumps, and of those at which the worker is killed as well.
JUMPS, KILLS = 0.3, 0.05


def move_the_clock(drill: Drill) -> None:
    """Move the clock between workers and under running ones, and kill some of them."""
    pipeline = drill.harness.make_pipeline("clock", num_spans=4)

    def jump(worker: Worker, point: Point) -> bool:
        if drill.random.random() < JUMPS:
            drill.sheet.counts["jumps"] += 1
            worker.jump(drill.random.uniform(-MAX_JUMP_SECONDS, MAX_JUMP_SECONDS))
        if drill.random.random() < KILLS:
            drill.sheet.counts["kills"] += 1
            worker.kill()
            return True
        return False

    with drill.watched(pipeline):
        # Every worker begins where another clock would be: the shift of the one before is forgotten.
        seen = drill.run_all(pipeline, jump)
    drill.check_twin(pipeline, seen)
