"""Score the champion on a span before anything trains on it: test, then train."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model

from core.files import write_text_atomically
from monitoring.metrics import metrics_of
from schemas.artifacts import PrequentialScore as PrequentialScoreArtifact
from schemas.features import LabelSpec
from schemas.model_layout import SERVING_FOLDER
from schemas.scores import PREQUENTIAL_FILE, PrequentialScore
from serving.scoring import Scorer

ALL_FILES = "Split-*/*"


@component
def Prequential(
    examples: InputArtifact[Examples],
    champion: InputArtifact[Model],
    score: OutputArtifact[PrequentialScoreArtifact],
    label: Parameter[str],
) -> None:
    """Measure the champion on all examples of the span, train and eval split: it has seen none of them.

    Args:
        examples: The span.
        champion: The model that serves.
        score: Artifact to fill.
        label: `schemas.features.LabelSpec` as JSON.
    """
    spec = LabelSpec.model_validate_json(label)
    files = sorted(Path(examples.uri).glob(ALL_FILES))
    labels, scores = Scorer(Path(champion.uri) / SERVING_FOLDER).score_files(files, spec)
    measured = PrequentialScore(
        span=examples.get_int_custom_property("span"),
        num_examples=len(labels),
        metrics=metrics_of(spec.task, labels, scores),
    )
    write_text_atomically(Path(score.uri) / PREQUENTIAL_FILE, measured.model_dump_json(indent=1))
