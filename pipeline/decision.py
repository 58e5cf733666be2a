"""The decision record: the one document that says what a cycle did and why."""

from datetime import datetime
from pathlib import Path
from typing import Any

from core.files import write_text_atomically
from pipeline.plan import RunPlan
from schemas.base import Record
from schemas.gate import GateReport
from schemas.ledger_records import RunOutcome
from schemas.scores import PrequentialScore
from schemas.verdicts import DriftReport

DECISION_NAME = "decision.json"


class Push(Record):
    """What became of a blessed candidate.

    Attributes:
        version: The version it was published as.
        destination: Its folder below the serving folder.
        is_champion: False if another worker moved the champion first.
    """

    version: int
    destination: str
    is_champion: bool


class Decision(Record):
    """What one run did and why.

    Attributes:
        outcome: How the run ended.
        reasons: Sentences for a reader in a hurry, the plan's first.
        drift: Every finding about the span; None if the run failed before.
        gate: The gate's table; None if nothing was trained.
        training: What the Trainer wrote about itself: epochs, steps, losses.
        prequential: The champion's score on the whole span before anything trained on it; None where it had seen it.
        model: Uris and digests of the candidate, in the names of `ModelRecord`; None if nothing was trained.
        first_model_auc: AUC of the first model ever pushed on this eval split: what never retraining would give.
        seconds: Wall seconds by node, and `total`.
        digests: Of `code`, `config`, `schema` and `data` (the planned window).
        shadow: What became of the shadow model trained after the cycle; None where none was due, and in the cycle's
            file, since the shadow's run has a file of its own.
        error: Headline and text of the failure.
    """

    pipeline: str
    run_id: str
    runner: str
    started_at: datetime
    outcome: RunOutcome
    reasons: tuple[str, ...]
    plan: RunPlan
    drift: DriftReport | None = None
    gate: GateReport | None = None
    training: dict[str, Any] | None = None
    prequential: PrequentialScore | None = None
    push: Push | None = None
    model: dict[str, str] | None = None
    first_model_auc: float | None = None
    seconds: dict[str, float]
    digests: dict[str, str]
    shadow: "Decision | None" = None
    error: str | None = None


def write_decision(runs_path: Path, decision: Decision) -> Path:
    """Write the record into the run's folder and return its path."""
    path = runs_path / decision.run_id / DECISION_NAME
    write_text_atomically(path, decision.model_dump_json(indent=1))
    return path


def read_decision(path: Path) -> Decision:
    """Read a record that `write_decision` wrote."""
    return Decision.model_validate_json(path.read_text(encoding="utf-8"))
