"""Scores of a model's examples, each computed once in this process, however many nodes of a cycle ask for them.

In here: which models and scores are kept, and for how long. Not in here: how a model scores (prediction.py).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from core.digests import digest_of_file, digest_of_folder, digest_of_json
from core.errors import DataError
from core.kept import Kept
from records.columns import labels_of, read_columns
from records.reading import serialized_batches
from schemas.features import LabelSpec
from serving.prediction import ASSETS_FOLDER, PROGRAM_FILE, Predictor, Scores

# Programs of the models that one cycle asks: candidate's, champion's and the first one's. A line of warm starts
# has one, until its transform graph is refreshed. Each takes about 50 MiB.
MAX_PROGRAMS = 3
# Batches of at most 4,096 examples: a cycle of a million asks for some 500, and what is kept stays below 16 MiB for one
# output.
MAX_SCORED_BATCHES = 1000


class _Program:
    """A program that is loaded and traced, and has the numbers of one model at a time.

    Args:
        model_folder: The model to load it from.
        digest: Of that model.
    """

    def __init__(self, model_folder: Path, digest: str) -> None:
        self._predictor = Predictor(model_folder)
        self._digest: str | None = digest
        self._lock = Lock()

    def score(self, model_folder: Path, digest: str, examples: Sequence[bytes]) -> Scores:
        """Score examples by a model that has this program."""
        with self._lock:
            if self._digest != digest:
                self._digest = None  # should it fail
                self._predictor.take_variables(model_folder)
                self._digest = digest
            return self._predictor.predict_examples(examples)


_PROGRAMS = Kept[_Program](MAX_PROGRAMS)
_SCORES = Kept[Scores](MAX_SCORED_BATCHES)


class Scorer:
    """Scores serialized examples as a model does, which is loaded when a batch comes that it has not scored yet.

    Models are told apart by content: a candidate is the same model when it has been pushed. Of models with the same
    program, as a warm start has its base model's, only the variables are read.

    Args:
        model_folder: A SavedModel: a version that was pushed, or a model artifact's `Format-Serving`.

    Raises:
        ServingError: the folder cannot be loaded as a SavedModel, once it has to be.
    """

    def __init__(self, model_folder: Path) -> None:
        self._folder = model_folder
        self._digest = digest_of_folder(model_folder)

    def __call__(self, examples: Sequence[bytes]) -> Scores:
        """Return the scores of serialized `tf.Example` records, shape `(num_examples, num_outputs)`.

        Raises:
            ServingError: the model has no such signature, or refuses the input.
        """
        return _SCORES.get((self._digest, _digest_of(examples)), lambda: self._score(examples))

    def score_files(self, files: Sequence[Path], label: LabelSpec) -> tuple[npt.NDArray[np.float64], Scores]:
        """Score all records of gzipped TFRecord files, in batches.

        Args:
            files: Files of one or more splits.
            label: What the model predicts.

        Returns:
            Labels of shape `(num_examples,)`, for multiclass the indices of their classes, and scores of shape
            `(num_examples, num_outputs)`, in the files' order.

        Raises:
            DataError: a file cannot be read, a record has no usable label, or there are no records.
            ServingError: as when called.
        """
        labels, scores = [], []
        for batch in serialized_batches(files):
            labels.append(labels_of(read_columns(batch, [label.name])[label.name], label))
            scores.append(self(batch))
        if not labels:
            raise DataError(
                f"There is nothing to score in {[str(file) for file in files]}. Expected at least one record. "
                "Check the span's manifest."
            )
        return np.concatenate(labels), np.concatenate(scores)

    def _score(self, examples: Sequence[bytes]) -> Scores:
        program = _PROGRAMS.get(_digest_of_program(self._folder), lambda: _Program(self._folder, self._digest))
        scores = program.score(self._folder, self._digest, examples)
        scores.setflags(write=False)  # of all who ask
        return scores


def _digest_of_program(model_folder: Path) -> str:
    """Return the digest of all that a SavedModel is but the numbers in its variables."""
    file = model_folder / PROGRAM_FILE
    # Without one it cannot be loaded, which is the loader's to say.
    return digest_of_json(
        [digest_of_file(file) if file.is_file() else None, digest_of_folder(model_folder / ASSETS_FOLDER)]
    )


def _digest_of(examples: Sequence[bytes]) -> bytes:
    """Return a digest of records in their order; where one ends and the next begins counts."""
    digest = hashlib.sha256(np.array([len(example) for example in examples], np.int64).tobytes())
    digest.update(b"".join(examples))
    return digest.digest()
