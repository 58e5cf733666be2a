"""A Model artifact on disk: `Format-Training` to go on from, `Format-Serving` to predict with; whole or not at all."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core.files import folder_written_atomically, write_text_atomically
from schemas.analysis import Analysis
from schemas.model_layout import KERAS_FILE
from schemas.training import FISHER_FILE, ModelShape
from trainer.analysis import write_analysis
from trainer.model_state import Arrays
from trainer.program import copied_program, made_of, program_in
from trainer.signatures import ServedModel, served_variables
from trainer.training_record import TRAINING_RECORD_FILE, ServingProgram, TrainingRecord
from trainer.transform_graph import TransformGraph


@dataclass(frozen=True)
class Template:
    """An earlier SavedModel, which may compute the same with other numbers.

    Attributes:
        folder: Its folder.
        program: Its program, by the record of its training; None: unknown.
    """

    folder: Path
    program: ServingProgram | None


def write_training_folder(
    folder: Path, model: keras.Model, record: TrainingRecord, analysis: Analysis, fisher: Arrays | None
) -> None:
    """Write the Keras file, with optimizer state, and what a warm start needs to know beside it.

    Args:
        folder: `Format-Training`.
        model: Trained.
        record: What the run did.
        analysis: What the transform graph was analysed to.
        fisher: Fisher information by weight path; None where EWC is off.
    """
    with folder_written_atomically(folder) as temporary:
        model.save(temporary / KERAS_FILE)
        write_text_atomically(temporary / TRAINING_RECORD_FILE, record.model_dump_json(indent=2))
        write_analysis(temporary, analysis)
        if fisher is not None:
            np.savez(temporary / FISHER_FILE, **fisher)


def write_serving_folder(
    folder: Path, model: keras.Model, graph: TransformGraph, shape: ModelShape, *, template: Template | None
) -> ServingProgram:
    """Write the SavedModel with its signatures, the transform graph inside, and return its program's identity.

    Args:
        folder: `Format-Serving`.
        model: Trained.
        graph: The transform graph it was trained under.
        shape: What the model was built from.
        template: The base model's SavedModel; its program is used again where it is the one that is needed.
    """
    parts = made_of(graph.digest, shape, model.dtype_policy.name)
    with folder_written_atomically(folder) as temporary:
        program = template.program if template else None
        if (
            template is None
            or program is None
            or program.made_of != parts
            or not copied_program(template.folder, program, temporary, served_variables(model))
        ):
            served = ServedModel(model, graph)
            tf.saved_model.save(served, str(temporary), signatures=served.endpoints)
        return program_in(temporary, parts)
