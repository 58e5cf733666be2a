"""`training.json`: what a training run did, kept beside the model that came of it."""

from pathlib import Path

from schemas.base import Record
from schemas.training import StartName, TrainerRequest

TRAINING_RECORD_FILE = "training.json"


class ServingProgram(Record):
    """Identity of the program in a SavedModel.

    Attributes:
        made_of: Digest of all that it was made of: code, libraries, transform graph, model shape.
        digest: Digest of its files.
    """

    made_of: str
    digest: str


class TrainingRecord(Record):
    """What a later warm start and a curious reader need to know about a model's training.

    Attributes:
        request: Everything that the Trainer was asked.
        num_examples: Examples in the train split, those held out for early stopping included.
        num_validation_examples: Examples held out.
        num_replay_examples: Past examples in every epoch, repeated ones counted as often as they came.
        initialisation: How the run started, also where `auto` was asked for.
        initialisation_why: What the probe found, as a sentence; None where no probe chose.
        line_length: Warm starts since the line's cold start, this one included; 0 after a cold start.
        learning_rate: Rate of the run, before its policy's factor.
        regularisation: How strong the terms were that held the model near its base, by name; empty where none did.
        penalties: What L2-SP and EWC, where switched on, added to the loss with the weights that were kept.
        notes: What did not go as asked, a sentence each.
        steps: Steps of the kept weights, those of all base models included.
        history: Losses and metrics of every epoch run.
        best_epoch: Index of the epoch whose weights were kept.
        seconds: Duration from reading the request to before writing the model, of the last attempt.
        transform_graph_digest: Digest of the TransformGraph folder that the model was trained under.
        serving_program: What the SavedModel computes with its variables; None in records of older code.
    """

    request: TrainerRequest
    num_examples: int
    num_validation_examples: int
    num_replay_examples: int = 0
    initialisation: StartName
    initialisation_why: str | None = None
    line_length: int
    learning_rate: float
    regularisation: dict[str, float] = {}
    penalties: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    steps: int
    history: tuple[dict[str, float], ...]
    best_epoch: int
    seconds: float
    transform_graph_digest: str
    serving_program: ServingProgram | None = None


def read_training_record(folder: Path) -> TrainingRecord:
    """Return the record in a `Format-Training` folder."""
    return TrainingRecord.model_validate_json((folder / TRAINING_RECORD_FILE).read_text(encoding="utf-8"))
