"""A run that records itself elsewhere, as in a cluster: who follows it takes its word, and repeats nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from core.errors import ConfigError, LeaseLostError, NodeError, StoppedError
from ledger.ledger import Ledger
from pipeline.controller import Controller
from pipeline.cycle import Cycle, Listeners
from pipeline.leadership import leading
from pipeline.plan import RunPlan
from pipeline.tfx_dag import TfxDag


class RecordedElsewhere:
    """Runs the fake DAG and records its outcome as a task of a cluster does: with a ledger of its own, adopted.

    Attributes:
        recorded: How often it was recorded.
    """

    runner = "elsewhere"
    code_digest = "code"

    def __init__(self, small: Any) -> None:
        self._small = small
        self.recorded = 0

    def run(self, plan: Any, observer: Any) -> None:
        self._small.dag.run(plan, observer)
        self._small.clock.advance(100)
        self.record(plan)

    def record(self, plan: Any) -> None:
        config, dag = self._small.config, self._small.dag
        with Ledger.open(config.ledger_url, config.name, clock=self._small.clock) as ledger:
            ledger.adopt()

            def keep(decision: Any) -> None:
                ledger.keep_decision(decision.run_id, decision.model_dump_json())

            Cycle(config, ledger, dag, Listeners(decided=keep), self._small.clock).run(
                plan, started_at=ledger.run(plan.run_id).started_at
            )
        self.recorded += 1

    def outcome(self, plan: Any, **_: Any) -> Any:
        raise AssertionError(f"nobody but the run itself reads the outcome of {plan.run_id}")

    def give_up(self, run_id: str, fenced: Any) -> None:
        self._small.dag.give_up(run_id, fenced)


@pytest.fixture
def elsewhere(small: Any) -> Any:
    return RecordedElsewhere(small)


@pytest.fixture
def follow(small: Any, elsewhere: Any) -> Callable[[], Any]:
    """Run the next span as a worker with the lease does, who only follows."""

    def run() -> Any:
        with leading(small.ledger, 60):
            return Controller(small.config, small.ledger, dag=elsewhere, clock=small.clock).run_next()

    return run


def test_follower_returns_the_decision_and_records_nothing_again(small, elsewhere, follow):
    first, second = follow(), follow()
    assert (first.outcome, second.outcome) == ("pushed", "pushed")
    # From the beginning of the run, not of the task that recorded it.
    assert second.seconds["total"] == 100
    assert second.model["model_uri"].endswith(second.run_id)
    assert elsewhere.recorded == 2
    assert len(small.ledger.champion_moves()) == 2
    assert small.states() == {1: "trained", 2: "pushed", 3: "pushed", 4: "arrived"}


def test_a_run_that_nobody_followed_has_recorded_itself(small, elsewhere, follow):
    """The follower left after the DAG had begun; the run ends without it, and the next worker finds nothing to do."""

    def leave(plan: Any, observer: Any) -> None:
        small.dag.run(plan, observer)
        raise StoppedError("The follower leaves.")

    elsewhere.run, run = leave, elsewhere.run
    with pytest.raises(StoppedError, match="leaves"):
        follow()
    (open_run,) = [run for run in small.ledger.runs() if run.outcome is None]
    elsewhere.record(RunPlan.model_validate_json(open_run.plan))
    elsewhere.run = run
    assert small.states()[2] == "pushed"
    assert follow().plan.span.span == 3


def test_candidate_is_judged_again_without_its_run_being_read(small, elsewhere, follow):
    """The decision alone says where the candidate is, and what drift and training were."""
    follow()
    follow()
    first, second = (model.version for model in small.ledger.models())

    def move_the_champion(plan: Any, node: str) -> None:
        if node == "Gate" and plan.candidate_uri is None:
            assert small.ledger.promote(second, first)

    small.dag.before = move_the_champion
    decision = follow()
    assert [run.outcome for run in small.ledger.runs()] == ["pushed", "pushed", "champion_moved", "pushed"]
    assert (decision.outcome, decision.plan.champion.version) == ("pushed", first)
    assert decision.plan.candidate_run_id == small.ledger.runs()[2].run_id


def test_a_worker_that_lost_its_lease_does_not_take_the_word_of_its_successor(small, elsewhere, follow):
    """It was asleep while another one took over and recorded the run; what it wakes to is a failure of its own."""

    def sleep(plan: Any, observer: Any) -> None:
        with Ledger.open(small.config.ledger_url, small.config.name, clock=small.clock) as successor:
            successor.acquire(ttl_seconds=60)
            small.dag.run(plan, observer)
            Cycle(small.config, successor, small.dag, Listeners(), small.clock).run(plan)
        raise NodeError("Its checkpoint is gone.")

    elsewhere.run = sleep
    with pytest.raises(LeaseLostError):
        follow()


@pytest.mark.parametrize("runner", ["local", "beam"])
def test_a_local_runner_says_that_it_cannot_reach_an_object_store(small, follow, runner):
    plan = follow().plan.model_copy(update={"transform_graph_uri": "minio://bucket/graph"})
    expected = rf"Runner '{runner}' cannot read .* received 'minio://bucket/graph'.*--runner kubeflow"
    with pytest.raises(ConfigError, match=expected):
        TfxDag(small.config, runner).run(plan, observer=None)
