"""Decide whether a candidate may serve, with the noise of every comparison in view."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from components.blessing import fill_blessing
from core.files import write_text_atomically
from ingest.replay_buffer import read_replay
from monitoring.evaluation import read_evaluation
from monitoring.forgetting import measure_backward_transfer
from monitoring.gate import explain_gate
from monitoring.prequential import summarise
from monitoring.scored_examples import ScoredExamples, score_examples
from records.reading import BATCH_SIZE, serialized_batches, split_files
from schemas.artifacts import GateVerdict, PrequentialScore, ReplayBuffer
from schemas.features import LabelSpec
from schemas.gate import GATE_REPORT_FILE, HEADLINE_METRIC, BackwardTransfer, GateOptions
from schemas.model_layout import SERVING_FOLDER
from schemas.provenance import EVALUATION_METRICS, EXAMPLES_SPANS, decode_spans
from schemas.scores import PREQUENTIAL_FILE, PrequentialSummary
from schemas.scores import PrequentialScore as Score
from serving.scoring import Scorer

EVAL_SPLIT = "eval"


@component
def Gate(
    evaluation: InputArtifact[ModelEvaluation],
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[ModelBlessing],
    report: OutputArtifact[GateVerdict],
    options: Parameter[str],
    label: Parameter[str],
    prequential_history: Parameter[str],
    is_warm: Parameter[int],
    champion: InputArtifact[Model] = None,
    replay: InputArtifact[ReplayBuffer] = None,
    prequential: InputArtifact[PrequentialScore] = None,
) -> None:
    """Bless the candidate or not, and write every reason with its numbers.

    Args:
        evaluation: What TFX's Evaluator measured of the candidate, alone; the champion is measured here.
        model: The candidate.
        examples: What was evaluated.
        blessing: Artifact to fill as TFX's Evaluator does, for the Pusher.
        report: Artifact to fill; its custom property has the candidate's overall metrics for lineage.
        options: `schemas.gate.GateOptions` as JSON.
        label: `schemas.features.LabelSpec` as JSON.
        prequential_history: The champions' scores on earlier spans, oldest first: `schemas.scores.PrequentialScore`s
            as a JSON list.
        is_warm: 1 if the candidate started from a base model, else 0.
        champion: The model that serves.
        replay: The replay buffer before this span, on whose eval split forgetting is measured.
        prequential: The champion's score on this span.
    """
    gate_options, label_spec = GateOptions.model_validate_json(options), LabelSpec.model_validate_json(label)
    models = [model, champion] if champion else []
    verdict = explain_gate(
        read_evaluation(Path(evaluation.uri)),
        options=gate_options,
        comparison=_compare(
            serialized_batches(split_files(examples.uri, EVAL_SPLIT)), models, gate_options, label_spec
        ),
        backward_transfer=_backward_transfer(replay, examples, models, gate_options, label_spec),
        prequential=_summary(prequential_history, prequential, gate_options, label_spec),
        is_warm=bool(is_warm),
    )
    write_text_atomically(Path(report.uri) / GATE_REPORT_FILE, verdict.model_dump_json(indent=1))
    report.set_string_custom_property(EVALUATION_METRICS, json.dumps(verdict.candidate))
    fill_blessing(blessing, model=model, baseline=champion, is_blessed=verdict.is_blessed)


def _compare(
    batches: Iterable[Sequence[bytes]], models: list[Any], options: GateOptions, label: LabelSpec
) -> ScoredExamples | None:
    """Return the examples as candidate and champion score them; None without a champion or an example."""
    if not models:
        return None
    candidate, champion = (Scorer(Path(model.uri) / SERVING_FOLDER) for model in models)
    slices = (*options.slices, *(bound.slices for bound in options.bounds))
    columns = {column for columns in slices for column in columns}
    return score_examples(batches, label=label, columns=columns, candidate=candidate, champion=champion)


def _backward_transfer(
    replay: Any, examples: Any, models: list[Any], options: GateOptions, label: LabelSpec
) -> BackwardTransfer | None:
    if not replay:
        return None
    records, spans = read_replay(Path(replay.uri), EVAL_SPLIT)
    own = {ref.span for ref in decode_spans(examples.get_string_custom_property(EXAMPLES_SPANS))}
    older = [row for row, span in enumerate(spans) if span not in own]
    batches = (older[start : start + BATCH_SIZE] for start in range(0, len(older), BATCH_SIZE))
    scored = _compare(([records[row] for row in rows] for rows in batches), models, options, label)
    return measure_backward_transfer(scored, spans[older], options=options) if scored else None


def _summary(history: str, newest: Any, options: GateOptions, label: LabelSpec) -> PrequentialSummary | None:
    scores = [Score.model_validate(score) for score in json.loads(history)]
    if newest:
        text = (Path(newest.uri) / PREQUENTIAL_FILE).read_text(encoding="utf-8")
        scores.append(Score.model_validate_json(text))
    return summarise(scores, options.prequential, HEADLINE_METRIC[label.task]) if scores else None
