"""A Model artifact on disk: `Format-Training` to go on from, `Format-Serving` to predict with; whole or not at all."""

from pathlib import Path

import keras
import tensorflow as tf

from core.files import folder_written_atomically, write_text_atomically
from schemas.model_layout import KERAS_FILE
from trainer.signatures import ServedModel
from trainer.training_record import TRAINING_RECORD_FILE, TrainingRecord
from trainer.transform_graph import TransformGraph


def write_training_folder(folder: Path, model: keras.Model, record: TrainingRecord) -> None:
    """Write the Keras file, with optimizer state, and the record of the training run."""
    with folder_written_atomically(folder) as temporary:
        model.save(temporary / KERAS_FILE)
        write_text_atomically(temporary / TRAINING_RECORD_FILE, record.model_dump_json(indent=2))


def write_serving_folder(folder: Path, model: keras.Model, graph: TransformGraph) -> None:
    """Write the SavedModel with its signatures, the transform graph inside."""
    served = ServedModel(model, graph)
    with folder_written_atomically(folder) as temporary:
        tf.saved_model.save(served, str(temporary), signatures=served.endpoints)
