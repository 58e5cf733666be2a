"""What is done to a pipeline, one function a scenario. What must hold afterwards is in `tools.drill.invariants`."""

from collections.abc import Callable, Mapping

from tools.drill.drill import Drill
from tools.drill.scenarios.champion import roll_back_during_a_cycle
from tools.drill.scenarios.kills import kill_at_every_point, kill_at_random_moments
from tools.drill.scenarios.poison import crash_every_time, fail_every_time
from tools.drill.scenarios.storage import fill_the_disk, remove_the_serving_folder
from tools.drill.scenarios.time import move_the_clock
from tools.drill.scenarios.workers import freeze_a_worker, start_two_workers

SCENARIOS: Mapping[str, Callable[[Drill], None]] = {
    "kill-points": kill_at_every_point,
    "kill-random": kill_at_random_moments,
    "full-disk": fill_the_disk,
    "clock": move_the_clock,
    "two-workers": start_two_workers,
    "frozen-worker": freeze_a_worker,
    "no-serving": remove_the_serving_folder,
    "rollback": roll_back_during_a_cycle,
    "poison-crash": crash_every_time,
    "poison-data": fail_every_time,
}
# What continuous integration has time for.
QUICK = ("kill-points", "two-workers", "frozen-worker", "no-serving")
