"""A Model artifact on disk: `Format-Training` to go on from, `Format-Serving` to predict with; whole or not at all."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core.files import folder_written_atomically, write_text_atomically
from schemas.analysis import Analysis
from schemas.model_layout import KERAS_FILE
from schemas.training import FISHER_FILE
from trainer.analysis import write_analysis
from trainer.model_state import Arrays
from trainer.signatures import ServedModel
from trainer.training_record import TRAINING_RECORD_FILE, TrainingRecord
from trainer.transform_graph import TransformGraph


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


def write_serving_folder(folder: Path, model: keras.Model, graph: TransformGraph) -> None:
    """Write the SavedModel with its signatures, the transform graph inside."""
    served = ServedModel(model, graph)
    with folder_written_atomically(folder) as temporary:
        tf.saved_model.save(served, str(temporary), signatures=served.endpoints)
