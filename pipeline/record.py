"""What a DAG that ran to its end left behind, read back from ML Metadata and the artifacts it names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import ServingError
from lineage.runs import NodeRun, node_runs
from lineage.store import opened_store
from pipeline.config import Config
from pipeline.decision import Decision, Push
from pipeline.plan import RunPlan
from schemas import provenance
from schemas.base import Record
from schemas.gate import GATE_REPORT_FILE, HEADLINE_METRIC, OVERALL, GateReport
from schemas.ledger_records import RunOutcome
from schemas.model_layout import TRAINING_FOLDER
from schemas.scores import PREQUENTIAL_FILE, PrequentialScore
from schemas.spans import MANIFEST_NAME, Manifest
from schemas.verdicts import DRIFT_REPORT_FILE, DriftReport, Verdict
from serving.scoring import Scorer
from serving.version_store import locate
from trainer.training_record import TRAINING_RECORD_FILE


class Outcome(Record):
    """How a run ended, and the facts that the decision record and the ledger keep.

    Attributes:
        word: `pushed`, `rejected`, `blocked`, `scored` (not trained on), or `cold_start` (a warm plan met drift that
            asks for a cold one).
        model: Uris and digests of the candidate, in the names of `ModelRecord`.
        window_statistics_uri: Statistics of what a new transform graph was analysed on.
        replay_uri: The replay buffer, this span's examples offered.
        prequential: The champion's score on the whole span before anything trained on it.
    """

    word: RunOutcome
    reasons: tuple[str, ...]
    drift: DriftReport
    gate: GateReport | None = None
    training: dict[str, Any] | None = None
    push: Push | None = None
    model: dict[str, str] | None = None
    statistics_uri: str
    window_statistics_uri: str
    replay_uri: str | None = None
    prequential: PrequentialScore | None = None
    first_model_auc: float | None = None
    seconds: dict[str, float]


def read_outcome(
    config: Config,
    plan: RunPlan,
    *,
    first_version: int | None,
    trained: Decision | None = None,
    locate: Callable[[str], Path] = Path,
) -> Outcome:
    """Return what the run of `plan` did.

    Args:
        config: The pipeline's config.
        plan: The plan that ran.
        first_version: The first model ever pushed, scored on this span for comparison; None if there is none yet.
        trained: Where the run only judged a candidate again, the decision on the run that trained it.
        locate: Gives the folder that an artifact's uri stands for.
    """
    with opened_store(config.metadata_url) as store:
        nodes = node_runs(store, plan.run_id)
        if trained is not None:
            # What it learned from, and how, was done by the other run; the verdict and the seconds are this one's.
            nodes = {**node_runs(store, trained.run_id), **nodes}
    drift = trained.drift if trained and trained.drift else _read_drift(nodes, locate)
    statistics_uri = nodes["StatisticsGen"].outputs["statistics"].uri
    window = nodes.get("WindowStatisticsGen", nodes["StatisticsGen"])
    common = {
        "drift": drift,
        "statistics_uri": statistics_uri,
        "window_statistics_uri": window.outputs["statistics"].uri,
        "seconds": {node_id: round(node.seconds, 2) for node_id, node in nodes.items()},
    }
    if plan.action == "score" and drift.verdict not in (Verdict.BLOCK.word, Verdict.COLD_START.word):
        score = _read_prequential(nodes, locate)
        said = {"word": "scored", "reasons": ("Validated and scored; nothing was trained.",)}
        return Outcome.model_validate({**common, **said, "prequential": score, "replay_uri": _replay_uri(nodes, plan)})
    if "Trainer" not in nodes:
        sentences = tuple(f.sentence for f in drift.findings if f.verdict == drift.verdict)
        word = "blocked" if drift.verdict == Verdict.BLOCK.word else "cold_start"
        return Outcome.model_validate({**common, "word": word, "reasons": sentences})
    gate = GateReport.model_validate_json(
        (locate(nodes["Gate"].outputs["report"].uri) / GATE_REPORT_FILE).read_text(encoding="utf-8")
    )
    push = _read_push(nodes["Pusher"])
    first_auc, notes = _first_model_auc(config, plan, first_version or (push.version if push else None))
    return Outcome.model_validate(
        {
            **common,
            "word": "rejected" if push is None else "pushed",
            "reasons": (*(gate.reasons or _why_blessed(gate, HEADLINE_METRIC[config.label.task])), *notes),
            "gate": gate,
            "replay_uri": _replay_uri(nodes, plan),
            "prequential": trained.prequential if trained else _read_prequential(nodes, locate),
            "push": push,
            "model": _read_model(nodes, plan),
            "training": trained.training if trained else _read_training(nodes["Trainer"], locate),
            "first_model_auc": first_auc,
        }
    )


def _why_blessed(gate: GateReport, metric: str) -> tuple[str, ...]:
    """Return the headline in one short sentence, then all that the gate measured over the whole split."""
    bounded = [row for row in gate.rows if row.is_bounded]
    overall = [row.sentence for row in bounded if row.slice == OVERALL]
    num_undecided = sum(row.is_undecided for row in bounded)
    held = f"All {len(bounded) - num_undecided} bounded values that can be told hold"
    few = f"; {num_undecided} have too few examples to tell." if num_undecided else "."
    forgetting = [gate.backward_transfer.sentence] if gate.backward_transfer else []
    return (_headline(gate, metric), held + few, *overall, *forgetting)


def _headline(gate: GateReport, metric: str) -> str:
    row = next((row for row in gate.rows if (row.metric, row.slice) == (metric, OVERALL)), None)
    if row is None or row.candidate is None:
        return "Blessed."
    sentence = f"Blessed: {metric} {row.candidate:.4f}"
    if row.champion is not None:
        sentence += f" against the champion's {row.champion:.4f}"
    if row.difference is not None:
        sentence += f", {row.difference.value:+.4f} ({row.difference.low:+.4f} to {row.difference.high:+.4f})"
    return f"{sentence}."


def _read_drift(nodes: dict[str, NodeRun], locate: Callable[[str], Path]) -> DriftReport:
    folder = locate(nodes["DriftGate"].outputs["verdict"].uri)
    return DriftReport.model_validate_json((folder / DRIFT_REPORT_FILE).read_text(encoding="utf-8"))


def _read_prequential(nodes: dict[str, NodeRun], locate: Callable[[str], Path]) -> PrequentialScore | None:
    if "Prequential" not in nodes:
        return None
    folder = locate(nodes["Prequential"].outputs["score"].uri)
    return PrequentialScore.model_validate_json((folder / PREQUENTIAL_FILE).read_text(encoding="utf-8"))


def _replay_uri(nodes: dict[str, NodeRun], plan: RunPlan) -> str | None:
    return nodes["ReplayGen"].outputs["buffer"].uri if "ReplayGen" in nodes else plan.replay_uri


def _read_push(pusher: NodeRun) -> Push | None:
    properties = pusher.outputs["pushed_model"].properties
    if not properties[provenance.PUSHED]:
        return None
    return Push(
        version=int(properties[provenance.PUSHED_VERSION]),
        destination=str(properties[provenance.PUSHED_DESTINATION]),
        is_champion=False,
    )


def _read_model(nodes: dict[str, NodeRun], plan: RunPlan) -> dict[str, str]:
    model = nodes["Trainer"].outputs["model"]
    transform_graph_uri = plan.transform_graph_uri or nodes["Transform"].outputs["transform_graph"].uri
    return {
        "model_uri": model.uri,
        "model_digest": str(model.properties[provenance.MODEL_DIGEST]),
        "training_digest": str(model.properties[provenance.TRAINING_DIGEST]),
        "transform_graph_uri": transform_graph_uri,
    }


def _read_training(trainer: NodeRun, locate: Callable[[str], Path]) -> dict[str, Any]:
    path = locate(trainer.outputs["model"].uri) / TRAINING_FOLDER / TRAINING_RECORD_FILE
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def _first_model_auc(config: Config, plan: RunPlan, version: int | None) -> tuple[float | None, tuple[str, ...]]:
    """Score the first model ever pushed on the span's eval split, if the task has an AUC and the model is there.

    Returns:
        The AUC or None, and why it could not be had. By now the candidate may be published: no failure may stop here.
    """
    folder = None if version is None else locate(config.serving_path, version)
    if config.label.task != "binary" or folder is None:
        return None, ()
    from sklearn.metrics import roc_auc_score

    span = plan.span.folder(config.spans_path)
    manifest = Manifest.model_validate_json((span / MANIFEST_NAME).read_text(encoding="utf-8"))
    files = [span / file.path for file in manifest.files["eval"]]
    try:
        labels, scores = Scorer(folder).score_files(files, config.label)
    except ServingError as error:
        return None, (f"The first model could not be scored for comparison. {error}",)
    return (float(roc_auc_score(labels, scores)) if len(set(labels.tolist())) > 1 else None), ()
