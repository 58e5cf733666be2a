"""What a backfill plans and does, with a real ledger and a DAG that is a fake."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.arrivals import Discovery
from pipeline.backfill import read_findings, run_backfill
from pipeline.backfill_plan import plan_backfill
from pipeline.plan import Skip
from pipeline.policies import CorrectionOptions


@pytest.fixture
def planned(small: Any, now: Any) -> Any:
    """Plan a backfill of a range, by span."""

    def plan(
        first: int, last: int, *, is_again: bool = False, has_ledger: bool = True, **changes: Any
    ) -> dict[int, Any]:
        config = small.config.model_copy(update=changes)
        findings = read_findings(small.ledger if has_ledger else None, config, range(first, last + 1))
        return {step.span: step for step in plan_backfill(findings, config, now=now, is_again=is_again)}

    return plan


@pytest.fixture
def backfill(small: Any, planned: Any) -> Any:
    """Plan a backfill, and run it; return what came of each step."""

    def run(first: int, last: int, *, is_again: bool = False, **changes: Any) -> list[Any]:
        steps = planned(first, last, is_again=is_again, **changes).values()
        config = small.config.model_copy(update=changes)
        return list(run_backfill(list(steps), small.controller(**changes), small.ledger, config))

    return run


def run_all(small: Any, num_cycles: int = 3) -> None:
    controller = small.controller()
    for _ in range(num_cycles):
        controller.run_next()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_a_plan_says_how_each_cycle_would_start_if_those_before_it_are_pushed(planned: Any) -> None:
    steps = planned(2, 4)
    assert [(step.action, step.start, step.window) for step in steps.values()] == [
        ("run", "cold", (1, 2)),
        ("run", "warm", (3,)),
        ("run", "warm", (4,)),
    ]
    assert [step.base for step in steps.values()] == [
        None,
        "the model of span 2, if it is pushed",
        "the model of span 3, if it is pushed",
    ]
    assert steps[2].why == "It has just arrived."


def test_a_plan_writes_nothing(small: Any, planned: Any, tmp_path: Path) -> None:
    run_all(small, 2)
    small.dag.words[4] = "rejected"
    small.controller().run_next()
    small.add_span(3, version=2, text="corrected")
    small.add_span(5)
    before = snapshot(tmp_path)
    steps = planned(1, 6, is_again=True)
    assert [step.action for step in steps.values()] == ["leave", "leave", "run", "reopen", "run", "leave"]
    assert snapshot(tmp_path) == before
    assert len(small.ledger.spans()) == 4


def test_a_plan_needs_no_ledger(planned: Any) -> None:
    assert planned(2, 3, has_ledger=False) == planned(2, 3)


def test_what_is_done_is_left_alone(small: Any, planned: Any) -> None:
    run_all(small)
    steps = planned(1, 5)
    assert {step.action for step in steps.values()} == {"leave"}
    learned = "The champion, or a model that it descends from, has learned from it."
    assert [step.why for step in steps.values()] == [learned] * 4 + ["No such span has arrived."]


def test_again_opens_what_was_refused_and_only_that(small: Any, planned: Any, backfill: Any) -> None:
    small.dag.words = {3: "rejected", 4: "blocked"}
    run_all(small)
    assert [(step.state, step.why) for step in planned(3, 4).values()] == [
        ("rejected", "It is rejected; --again opens it."),
        ("blocked", "It is blocked; --again opens it."),
    ]
    assert backfill(1, 4) == []
    small.dag.words = {}
    decisions = backfill(1, 4, is_again=True)
    assert [(decision.plan.span.span, decision.outcome) for decision in decisions] == [(3, "pushed"), (4, "pushed")]
    assert [decision.plan.trigger for decision in decisions] == ["backfill", "backfill"]
    reopened = [move for move in small.ledger.transitions(3) if move.to_state == "arrived"][-1]
    assert reopened.reason == "Opened again by a backfill; it was rejected."
    assert backfill(1, 4, is_again=True) == []


def test_nothing_is_trained_twice_even_again(small: Any, planned: Any, backfill: Any) -> None:
    run_all(small)
    trained = list(small.dag.trained())
    assert backfill(1, 4, is_again=True) == []
    # Rolled back to the first model, whose line has not learned span 4: it was pushed all the same, and stays.
    small.ledger.promote(3, 1, by="rollback")
    assert planned(1, 4, is_again=True)[4].why == "It is pushed."
    assert backfill(1, 4, is_again=True) == []
    assert small.dag.trained() == trained


def test_a_correction_that_a_repair_before_it_learned_is_left_out(small: Any, planned: Any, backfill: Any) -> None:
    run_all(small)
    for span in (3, 4):
        small.add_span(span, version=2, text="corrected")
    assert [step.action for step in planned(3, 4).values()] == ["run", "run"]
    decision, skip = backfill(3, 4)
    assert [(span.span, span.version) for span in decision.plan.window] == [(4, 2), (3, 2)]
    assert skip.reason == "Span 4 version 2 is trained by now."


def test_a_model_of_old_spans_alone_never_becomes_champion(small: Any, planned: Any, backfill: Any) -> None:
    run_all(small)
    shutil.rmtree(small.config.spans_path / "span-000004")
    small.add_span(3, version=2, text="corrected")
    assert "Not promoted: it has learned from nothing newer than span 3" in planned(3, 3)[3].why
    [decision] = backfill(3, 3)
    assert decision.outcome == "rejected"
    assert "Not promoted" in decision.reasons[-1]
    assert small.ledger.champion().version == 3


def test_a_reopened_span_does_not_bring_its_old_replay_buffer_back(small: Any, backfill: Any) -> None:
    small.dag.words = {3: "rejected"}
    run_all(small)
    seen = []
    small.clock.advance(60)
    small.dag.words = {}
    small.dag.before = lambda plan, node: seen.append(small.ledger.newest_replay().replay_uri)
    backfill(3, 3, is_again=True)
    assert set(seen) == {str(small.config.artifacts_path / "replay" / "4")}


def test_an_ignored_correction_is_skipped_with_a_note(small: Any, backfill: Any) -> None:
    run_all(small)
    ref = small.add_span(4, version=2, text="corrected")
    [skip] = backfill(4, 4, corrections=CorrectionOptions(repair="ignore"))
    assert isinstance(skip, Skip)
    assert small.ledger.span(ref).state == "skipped"
    assert small.ledger.span(ref).reason == skip.reason
    assert skip.reason.endswith("Nothing is trained again: corrections.repair is ignore.")


def test_a_refused_correction_is_repaired_when_it_is_opened_again(small: Any, planned: Any, backfill: Any) -> None:
    run_all(small)
    ref = small.add_span(4, version=2, text="corrected")
    small.dag.words = {4: "rejected"}
    assert [decision.outcome for decision in backfill(4, 4)] == ["rejected"]
    assert planned(4, 4)[4].why == "It is rejected; --again opens it."
    step = planned(4, 4, is_again=True)[4]
    assert (step.action, step.base, step.window) == ("reopen", "version 2", (4,))
    assert step.why.startswith("It is rejected, and is opened again. Span 4 version 2 corrects what")
    ignored = planned(4, 4, is_again=True, corrections=CorrectionOptions(repair="ignore"))[4]
    assert (ignored.action, ignored.has_cycle) == ("leave", False)
    waits = planned(4, 4, is_again=True, corrections=CorrectionOptions(repair="replay"))[4]
    assert (waits.action, waits.has_cycle, waits.changes_something) == ("reopen", False, True)
    small.dag.words = {}
    assert [decision.outcome for decision in backfill(4, 4, is_again=True)] == ["pushed"]
    assert small.ledger.span(ref).state == "pushed"


def test_a_replayed_correction_joins_the_next_cycle_and_is_trained_then(
    small: Any, planned: Any, backfill: Any
) -> None:
    run_all(small)
    corrections = CorrectionOptions(repair="replay")
    ref = small.add_span(4, version=2, text="corrected")
    small.add_span(5)
    assert [step.action for step in planned(4, 5, corrections=corrections).values()] == ["wait", "run"]
    [decision] = backfill(4, 5, corrections=corrections)
    assert [(span.span, span.version) for span in decision.plan.window] == [(4, 2), (5, 1)]
    assert "The next cycle learns the correction too" in decision.plan.why[0]
    assert small.ledger.span(ref).state == "trained"


def test_a_rerun_starts_from_the_last_clean_ancestor(small: Any, planned: Any, backfill: Any) -> None:
    run_all(small)
    small.add_span(3, version=2, text="corrected")
    step = planned(3, 3)[3]
    assert (step.action, step.start, step.base, step.window) == ("run", "warm", "version 1", (4, 3))
    [decision] = backfill(3, 3)
    assert decision.outcome == "pushed"
    champion = small.ledger.champion()
    assert (champion.base_version, champion.newest_span) == (1, 4)
    assert [(span.span, span.version) for span in decision.plan.window] == [(4, 1), (3, 2)]


def test_broken_files_are_left_alone_and_said(small: Any, planned: Any, backfill: Any) -> None:
    (small.config.spans_path / "span-000002" / "version-1" / "manifest.json").write_text("{")
    (small.config.spans_path / "span-000007" / "version-1").mkdir(parents=True)
    steps = planned(2, 7)
    assert [steps[span].action for span in (2, 3, 5, 7)] == ["leave", "run", "leave", "leave"]
    assert "unreadable manifest" in steps[2].why
    assert "has no manifest.json" in steps[7].why


def test_what_a_dead_worker_left_is_finished_first(small: Any, backfill: Any) -> None:
    run_all(small, 1)

    class Killed(BaseException):
        pass

    def die(plan: Any, node: str) -> None:
        if node == "Gate":
            raise Killed

    small.dag.before = die
    with pytest.raises(Killed):
        small.controller().run_next()
    small.dag.before = lambda plan, node: None
    outcomes = backfill(3, 4)
    assert [(decision.plan.span.span, decision.outcome) for decision in outcomes] == [(3, "pushed"), (4, "pushed")]
    assert len(small.dag.trained()) == 3


def test_a_correction_from_the_inbox_is_known_to_the_ledger_before_it_runs(small: Any, backfill: Any) -> None:
    Discovery(small.config).register(small.ledger)
    small.add_span(1, version=2, text="before anything was learned")
    backfill(1, 1)
    assert small.ledger.versions_of(1)[0].state == "superseded"
    assert small.ledger.versions_of(1)[1].state == "pushed"
