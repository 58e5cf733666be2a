"""The pipeline that nobody disturbs: what every other one must end as."""

import threading

from tools.drill.facts import Facts
from tools.drill.harness import DrillError, Harness
from tools.drill.invariants import ALONE


class Twin:
    """Runs one undisturbed pipeline, span by span, as far as somebody asks.

    Args:
        harness: Makes its pipeline and its workers.
    """

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._lock = threading.Lock()
        self._facts: dict[int, Facts] = {}

    def facts(self, num_spans: int) -> Facts:
        """Return what is left when the first `num_spans` spans are done and no other has arrived.

        Raises:
            DrillError: an undisturbed cycle fails, or breaks an invariant.
        """
        with self._lock:
            if not self._facts:
                self._pipeline = self._harness.make_pipeline("twin", num_spans=0)
                self._run_cycle(range(1, self._pipeline.config.window.cold_spans + 1))
            while max(self._facts) < num_spans:
                self._run_cycle(range(max(self._facts) + 1, max(self._facts) + 2))
            return self._facts[num_spans]

    def _run_cycle(self, arriving: range) -> None:
        for span in arriving:
            self._harness.add_span(self._pipeline, span)
        self._harness.run_cycle(self._pipeline)
        facts = self._harness.facts(self._pipeline)
        broken = [sentence for invariant in ALONE for sentence in invariant(facts)]
        if broken:
            raise DrillError("The undisturbed twin breaks invariants: " + " ".join(broken))
        self._facts[arriving[-1]] = facts
