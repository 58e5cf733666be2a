"""A person who moves the champion while a cycle runs."""

from tools.drill.drill import Drill
from tools.drill.facts import Facts
from tools.drill.harness import Worker
from tools.drill.points import Point


def roll_back_during_a_cycle(drill: Drill) -> None:
    """Roll the champion back while a candidate is evaluated: it is judged again, and nothing is trained again."""
    pipeline = drill.harness.make_pipeline("rollback", num_spans=4)
    for _ in range(2):
        drill.harness.run_cycle(pipeline)
    before = drill.harness.facts(pipeline)

    def roll_back(worker: Worker, point: Point) -> bool:
        if (point.kind, point.name) == ("start", "Evaluator") and not drill.sheet.counts["rollbacks"]:
            code, text = drill.harness.command(pipeline, "model", "rollback")
            drill.sheet.counts["rollbacks"] += 1
            drill.sheet.expect("a rollback works beside a cycle", code == 0, f"Exit code {code}: {text}")
        return False

    with drill.watched(pipeline):
        drill.run_all(pipeline, roll_back)
    facts = drill.check_alone(pipeline)
    outcomes = [run.outcome for run in facts.runs[len(before.runs) :]]
    drill.sheet.expect(
        "judged again", outcomes in (["champion_moved", "pushed"], ["champion_moved", "rejected"]), f"Runs: {outcomes}."
    )
    trained = _num_trained(facts) - _num_trained(before)
    drill.sheet.expect("trained once", trained == 1, f"The Trainer completed {trained} times for the span.")
    moved = [move.by for move in facts.moves[len(before.moves) :]]
    drill.sheet.expect("the rollback stands in the moves", moved[:1] == ["rollback"], f"Moved by {moved}.")


def _num_trained(facts: Facts) -> int:
    return sum((e.node_id, e.state) == ("Trainer", "COMPLETE") for e in facts.executions)
