"""What the controller does about death, failure and a champion that moves; the DAG is a fake, the ledger is real."""

from pathlib import Path

import pytest

from core.errors import ConfigError, DataError, StoppedError, UnavailableError
from ledger.ledger import Ledger
from pipeline.decision import read_decision
from pipeline.plan import Request, Skip
from pipeline.policies import RetryOptions
from schemas.ledger_records import TRANSITIONS
from serving.version_store import hidden_versions, versions


class Killed(BaseException):
    """Stands for the death of the process: nothing but `finally` runs after it."""


def _die_at(pipeline, node):
    def before(plan, started):
        if started == node:
            pipeline.dag.before = lambda plan, node: None
            raise Killed

    pipeline.dag.before = before


def _die_in(step):
    def die(name):
        if name == step:
            raise Killed

    return die


def _check(pipeline):
    """Check what must hold whatever happened."""
    champion = pipeline.ledger.champion()
    assert versions(pipeline.config.serving_path)[-1:] == ([champion.version] if champion else [])
    assert len(set(pipeline.dag.finished)) == len(pipeline.dag.finished)
    assert pipeline.ledger.open_run() is None
    for span in pipeline.states():
        for move in pipeline.ledger.transitions(span):
            assert move.from_state is None or move.to_state in TRANSITIONS[move.from_state]


def test_cycles_run_in_order_until_nothing_is_left(small):
    controller = small.controller()
    outcomes = [controller.run_next() for _ in range(3)]
    assert [decision.outcome for decision in outcomes] == ["pushed"] * 3
    assert [decision.plan.span.span for decision in outcomes] == [2, 3, 4]
    assert isinstance(controller.run_next(), Skip)
    assert small.states() == {1: "trained", 2: "pushed", 3: "pushed", 4: "pushed"}
    moves = [move.to_state for move in small.ledger.transitions(3)]
    assert moves == ["arrived", "validated", "trained", "evaluated", "pushed"]
    _check(small)


@pytest.mark.parametrize("node", ["ExampleGen", "DriftGate", "ReplayGen", "Trainer", "Gate", "Pusher"])
def test_death_in_a_node_is_resumed_there(small, node):
    small.controller().run_next()
    _die_at(small, node)
    with pytest.raises(Killed):
        small.controller().run_next()
    decision = small.controller().run_next()
    assert (decision.outcome, decision.plan.span.span) == ("pushed", 3)
    assert "An earlier attempt had stopped" in decision.reasons[-1]
    assert len(small.dag.trained()) == 2
    _check(small)


@pytest.mark.parametrize(
    "step", ["outcome", "record_model", "promote", "expose", "decide", "finish_span", "finish_history", "finish_run"]
)
def test_death_between_two_steps_of_the_record_loses_nothing(small, step):
    small.controller().run_next()
    with pytest.raises(Killed):
        small.controller(step=_die_in(step)).run_next()
    decision = small.controller().run_next()
    assert (decision.outcome, decision.plan.span.span, decision.push.is_champion) == ("pushed", 3, True)
    assert [model.span for model in small.ledger.models()] == [2, 3]
    assert len(small.dag.trained()) == 2
    assert small.states()[3] == "pushed"
    _check(small)


def test_changed_config_gives_the_open_run_up_and_plans_anew(small):
    small.controller().run_next()
    _die_at(small, "Trainer")
    with pytest.raises(Killed):
        small.controller().run_next()
    window = small.config.window.model_copy(update={"warm_spans": 2})
    decision = small.controller(window=window).run_next()
    assert [ref.span for ref in decision.plan.window] == [2, 3]
    given_up = small.ledger.runs()[1]
    assert small.dag.given_up == [given_up.run_id]
    assert (given_up.outcome, given_up.error) == ("abandoned", "The config has changed since the run began.")
    _check(small)


def test_correction_of_a_span_gives_its_open_run_up(small):
    small.controller().run_next()
    _die_at(small, "Trainer")
    with pytest.raises(Killed):
        small.controller().run_next()
    corrected = small.add_span(3, version=2)
    small.controller().run_next()
    decision = small.controller().run_next()
    assert small.ledger.runs()[1].outcome == "abandoned"
    assert corrected in [run.ref for run in small.ledger.spans() if run.state == "pushed"]
    assert decision.outcome == "pushed"
    _check(small)


def test_span_whose_runs_die_again_and_again_is_quarantined_and_the_next_goes_on(small):
    small.controller().run_next()

    def crash(plan, node):
        if plan.span.span == 3 and node == "Trainer":
            raise Killed

    small.dag.before = crash
    for _ in range(small.config.retries.max_attempts):
        with pytest.raises(Killed):
            small.controller().run_next()
    decision = small.controller().run_next()
    assert decision.plan.span.span == 4
    assert small.states() == {1: "trained", 2: "pushed", 3: "quarantined", 4: "pushed"}
    assert small.dag.given_up == [small.ledger.runs()[1].run_id]
    given_up = read_decision(Path(small.ledger.runs()[1].decision_path))
    assert (given_up.outcome, given_up.error) == (
        "quarantined",
        f"The worker died in {small.config.retries.max_attempts} attempts without getting any further.",
    )
    assert "died in 3 attempts" in small.ledger.transitions(3)[-1].reason
    _check(small)


def test_progress_between_two_deaths_starts_the_count_anew(small):
    small.controller().run_next()
    for node in FakeNodes.all_of(small):
        _die_at(small, node)
        with pytest.raises(Killed):
            small.controller().run_next()
    assert small.controller().run_next().outcome == "pushed"
    _check(small)


class FakeNodes:
    """The nodes of a warm cycle."""

    @staticmethod
    def all_of(pipeline):
        return pipeline.dag.NODES


def test_death_while_a_failed_run_is_given_up_leaves_no_span_half_way(small):
    small.controller().run_next()

    def fail(plan, node):
        if node == "Trainer":
            raise DataError("bad bytes")

    def die(step):
        if step == "give_up":
            raise Killed

    small.dag.before = fail
    with pytest.raises(Killed):
        small.controller(step=die).run_next()
    assert small.states()[3] == "arrived"
    assert small.ledger.open_run() is not None
    small.dag.before = lambda plan, node: None
    assert small.controller().run_next().outcome == "pushed"
    _check(small)


def test_failure_that_blames_the_span_counts_and_goes_on_at_the_failed_node(small):
    small.controller().run_next()

    def fail(plan, node):
        if plan.span.span == 3 and node == "Trainer":
            raise DataError("bad bytes")

    small.dag.before = fail
    for expected in ("failed", "failed", "quarantined"):
        with pytest.raises(DataError, match="bad bytes"):
            small.controller().run_next()
        assert small.ledger.runs()[-1].outcome == expected
    assert len(small.ledger.runs()) == 2
    assert small.controller().run_next().plan.span.span == 4
    _check(small)


def test_failure_that_does_not_blame_the_span_never_quarantines_it(small):
    small.controller().run_next()

    def fail(plan, node):
        raise ConfigError("wrong folder")

    small.dag.before = fail
    for _ in range(small.config.retries.max_attempts + 2):
        with pytest.raises(ConfigError):
            small.controller().run_next()
    small.dag.before = lambda plan, node: None
    assert small.controller().run_next().outcome == "pushed"
    assert small.states()[3] == "pushed"


class FullDiskLedger(Ledger):
    """A ledger on a disk that is full once a node has run into it."""

    is_full = False

    def give_back_attempt(self, run_id):
        if self.is_full:
            raise UnavailableError("database or disk is full")
        super().give_back_attempt(run_id)


def test_full_disk_never_quarantines_a_span_even_where_the_ledger_is_on_it(small):
    small.controller().run_next()
    with FullDiskLedger.open(small.config.ledger_url, small.config.name, clock=small.clock) as ledger:
        small.ledger = ledger

        def fail(plan, node):
            ledger.is_full = True
            raise UnavailableError("No space left on device")

        small.dag.before = fail
        for _ in range(small.config.retries.max_attempts + 2):
            ledger.is_full = False
            with pytest.raises(UnavailableError, match="No space left"):
                small.controller(retries=RetryOptions(max_attempts=1)).run_next()
        ledger.is_full = False
        small.dag.before = lambda plan, node: None
        assert small.controller().run_next().outcome == "pushed"
        assert small.states()[3] == "pushed"


def test_what_may_pass_is_tried_again_with_a_growing_wait(small):
    retries = small.config.retries.model_copy(update={"backoff_seconds": 4.0, "max_attempts": 3})
    failures = iter([UnavailableError("full"), UnavailableError("full")])

    def fail(plan, node):
        if node == "Trainer":
            for error in failures:
                raise error

    small.dag.before = fail
    began = small.clock.monotonic()
    assert small.controller(retries=retries).run_next().outcome == "pushed"
    assert small.clock.monotonic() - began == 4 + 8
    _check(small)


def test_what_does_not_pass_ends_the_command_and_leaves_the_run_open(small):
    def fail(plan, node):
        if node == "Trainer":
            raise UnavailableError("full")

    small.dag.before = fail
    for _ in range(4):
        with pytest.raises(UnavailableError, match="full"):
            small.controller().run_next()
    assert small.ledger.open_run().attempts == 0
    small.dag.before = lambda plan, node: None
    assert small.controller().run_next().outcome == "pushed"
    _check(small)


def test_worker_that_is_asked_to_stop_does_so_before_the_next_node(small):
    controller = small.controller()
    small.dag.before = lambda plan, node: controller.listeners.stop.set() if node == "Transform" else None
    with pytest.raises(StoppedError, match="before node 'Trainer' of span 2"):
        controller.run_next()
    assert small.controller().run_next().plan.span.span == 2
    _check(small)


def test_candidate_is_judged_again_when_the_champion_moved(small):
    controller = small.controller()
    controller.run_next()
    controller.run_next()
    first, second = (model.version for model in small.ledger.models())

    def move(plan, node):
        if plan.span.span == 4 and node == "Gate" and plan.candidate_uri is None:
            assert small.ledger.promote(second, first)

    small.dag.before = move
    decision = small.controller().run_next()
    assert (decision.outcome, decision.plan.champion.version) == ("pushed", first)
    assert decision.plan.candidate_run_id == small.ledger.runs()[2].run_id
    assert [run.outcome for run in small.ledger.runs()] == ["pushed", "pushed", "champion_moved", "pushed"]
    assert len(small.dag.trained()) == 3
    assert small.states()[4] == "pushed"
    _check(small)
    assert decision.push.version not in hidden_versions(small.config.serving_path)


def test_death_before_the_second_judgement_does_not_train_again(small):
    controller = small.controller()
    controller.run_next()
    controller.run_next()
    first, second = (model.version for model in small.ledger.models())

    def move(plan, node):
        if plan.candidate_uri is not None:
            small.dag.before = lambda plan, node: None
            raise Killed
        if plan.span.span == 4 and node == "Gate":
            assert small.ledger.promote(second, first)

    small.dag.before = move
    with pytest.raises(Killed):
        small.controller().run_next()
    assert small.controller().run_next().outcome == "pushed"
    assert len(small.dag.trained()) == 3
    _check(small)


def test_backfill_of_an_old_span_never_moves_the_champion_backwards(small):
    controller = small.controller()
    for _ in range(3):
        controller.run_next()
    late = small.add_span(0)
    small.ledger.register_spans([])
    request = Request(late, "backfill", small.clock.now(), force_cold="somebody wants it.")
    controller.reconcile_serving()
    controller._look()
    decision = controller.run_request(request)
    assert decision.outcome == "rejected"
    assert "A champion never moves backwards" in decision.reasons[-1]
    assert small.ledger.champion().span == 4
    _check(small)


def test_scoring_alone_ends_as_skipped(small):
    controller = small.controller()
    controller.run_next()
    ref = next(record.ref for record in small.ledger.spans() if record.span == 3)
    decision = controller.run_request(Request(ref, "adaptive", small.clock.now(), action="score"))
    assert (decision.outcome, small.states()[3]) == ("scored", "skipped")
    assert len(small.dag.trained()) == 1
    _check(small)


def test_serving_folder_that_vanished_is_restored(small):
    import shutil

    controller = small.controller()
    controller.run_next()
    shutil.rmtree(small.config.serving_path)
    controller.run_next()
    _check(small)


def test_serving_folder_is_restored_where_nothing_is_due(small):
    import shutil

    controller = small.controller()
    for _ in range(3):
        controller.run_next()
    shutil.rmtree(small.config.serving_path)
    assert isinstance(controller.run_next(), Skip)
    _check(small)


def _corrected(pipeline, repair):
    """Push spans 2, 3 and 4, correct span 3, and return the correction and a controller that repairs like that."""
    for _ in range(3):
        pipeline.controller().run_next()
    corrections = pipeline.config.corrections.model_copy(update={"repair": repair})
    return pipeline.add_span(3, version=2), pipeline.controller(corrections=corrections)


def _state_of(pipeline, ref):
    return pipeline.ledger.span(ref).state


def test_correction_waits_for_the_next_cycle_and_joins_it(small):
    correction, controller = _corrected(small, "replay")
    waits = controller.run_next()
    assert isinstance(waits, Skip)
    assert waits.reason == "The correction of span 3 waits for the next cycle of another span."
    small.add_span(5)
    decision = controller.run_next()
    assert [(ref.span, ref.version) for ref in decision.plan.window] == [(3, 2), (5, 1)]
    assert (_state_of(small, correction), small.states()[5]) == ("trained", "pushed")
    assert isinstance(controller.run_next(), Skip)
    _check(small)


def test_correction_that_is_ignored_is_skipped_with_a_note(small):
    correction, controller = _corrected(small, "ignore")
    assert isinstance(controller.run_next(), Skip)
    record = small.ledger.span(correction)
    assert record.state == "skipped"
    assert "Nothing is trained again" in record.reason


def test_correction_is_learned_again_from_the_last_clean_ancestor(small):
    correction, controller = _corrected(small, "rerun")
    champion = small.ledger.champion()
    decision = controller.run_next()
    plan = decision.plan
    assert (plan.trigger, plan.span, plan.base.span) == ("correction", correction, 2)
    assert sorted((ref.span, ref.version) for ref in plan.window) == [(3, 2), (4, 1)]
    assert plan.champion.version == champion.version
    buffer = small.config.artifacts_path / "replay" / "2"
    assert (plan.replay_uri, plan.reference_statistics_uri) == (str(buffer), "/statistics/2")
    assert (small.ledger.champion().newest_span, small.ledger.champion().base_version) == (4, plan.base.version)
    _check(small)


def test_correction_may_lead_to_a_cold_start(small):
    correction, controller = _corrected(small, "cold_start")
    decision = controller.run_next()
    assert (decision.plan.initialisation, decision.outcome) == ("cold", "pushed")
    assert decision.plan.window[-1] == correction
    _check(small)


def test_cold_repair_begins_a_line_as_new_as_what_it_learned(small):
    _, controller = _corrected(small, "cold_start")
    controller.run_next()
    champion = small.ledger.champion()
    assert (champion.span, champion.transform_span, champion.line_start_span, champion.newest_span) == (3, 4, 4, 4)


def test_drift_in_a_repair_starts_cold_on_the_newest_spans(small):
    correction, controller = _corrected(small, "rerun")
    small.dag.words = {3: "cold_start"}
    decision = controller.run_next()
    assert (decision.outcome, decision.plan.initialisation, decision.plan.trigger) == ("pushed", "cold", "correction")
    assert [(ref.span, ref.version) for ref in decision.plan.window] == [(4, 1), (3, 2)]
    assert _state_of(small, correction) == "pushed"
    _check(small)


def test_correction_that_joined_a_rejected_cycle_waits_for_the_next(small):
    correction, controller = _corrected(small, "replay")
    small.add_span(5)
    small.dag.words = {5: "rejected"}
    assert controller.run_next().outcome == "rejected"
    assert _state_of(small, correction) == "arrived"
    small.add_span(6)
    assert correction in controller.run_next().plan.window
    assert _state_of(small, correction) == "trained"
    _check(small)


def test_correction_that_comes_while_its_span_is_trained_stops_the_cycle(small):
    small.controller().run_next()

    def correct(plan, node):
        if node == "Transform":
            small.dag.before = lambda plan, node: None
            small.add_span(3, version=2)
            small.register()

    small.dag.before = correct
    with pytest.raises(StoppedError, match="corrected version of span 3 arrived before node 'Trainer'"):
        small.controller().run_next()
    decision = small.controller().run_next()
    assert (decision.plan.span.span, decision.plan.span.version, decision.outcome) == (3, 2, "pushed")
    assert [run.outcome for run in small.ledger.runs()] == ["pushed", "abandoned", "pushed"]
    assert len(small.dag.trained()) == 2
    _check(small)


def test_correction_that_comes_when_the_candidate_serves_finds_it_tainted(small):
    small.controller().run_next()
    learned = next(record.ref for record in small.ledger.spans() if record.span == 3)

    def correct(step):
        if step == "finish_span":
            small.add_span(3, version=2)
            small.register()

    assert small.controller(step=correct).run_next().outcome == "pushed"
    assert _state_of(small, learned) == "superseded"
    decision = small.controller().run_next()
    assert (decision.plan.trigger, decision.plan.span.version, decision.plan.base.span) == ("correction", 2, 2)
    _check(small)
