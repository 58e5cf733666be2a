"""What a run takes over from an earlier one of its process: a traced model, a loaded transform graph, a base model.

A run that finds something kept ends with the same numbers, bit by bit, as one that finds nothing.
"""

from pathlib import Path

import keras

from core.digests import digest_of_folder, digest_of_json
from core.kept import Kept
from schemas.features import FeatureSet
from schemas.training import ModelShape, TrainerRequest
from trainer.distribution import replicas_for
from trainer.learner import Learner
from trainer.model import build_model
from trainer.model_state import ModelState, state_of
from trainer.objective import AnchoredModel
from trainer.precision import computing_in
from trainer.transform_graph import TransformGraph
from trainer.warm_start import BaseModel, read_base_model

_NUM_KEPT = 2  # a champion's line, and a shadow model or the graph before a refresh

_learners = Kept[Learner](_NUM_KEPT)
_graphs = Kept[TransformGraph](_NUM_KEPT)


def learner_for(request: TrainerRequest, base_shape: ModelShape | None) -> tuple[Learner, ModelState]:
    """Return a model for a run, in any state, and the state that the run's seed builds it with.

    Args:
        request: What the run is asked.
        base_shape: Shape of the base model; None for a cold start.
    """
    key = digest_of_json([request.feature_set.model_dump(mode="json"), request.options.model_dump(mode="json")])
    learner = _learners.find(key)
    if learner is None:
        model = _built(request)
        learner = _learners.keep(key, Learner(model, request.feature_set, request.options))
        return learner, state_of(model)
    shape = ModelShape(feature_set=request.feature_set, model=request.options.model)
    is_all_from_base = request.initialisation == "warm" and base_shape == shape
    # Where every number comes from the base model, only names and shapes of the fresh state are looked at.
    return learner, state_of(learner.model if is_all_from_base else _built(request))


def _built(request: TrainerRequest) -> AnchoredModel:
    keras.utils.clear_session(free_memory=False)  # or Keras would number the names of layers on
    keras.utils.set_random_seed(request.options.seed + request.line_length)
    options = request.options
    replicas = replicas_for(options.distribution, options.worker_timeout_seconds)
    with replicas.strategy.scope(), computing_in(options.mixed_precision):
        return build_model(request.feature_set, options)


def kept_graph(folder: Path, feature_set: FeatureSet) -> TransformGraph:
    """Return the transform graph in a folder, loaded once per process."""
    key = digest_of_json([digest_of_folder(folder), feature_set.model_dump(mode="json")])
    found = _graphs.find(key)
    # Vocabularies are read, and exported, from the folder that it was loaded from.
    if found is None or not found.folder.is_dir():
        found = _graphs.keep(key, TransformGraph(folder, feature_set))
    return found


class KeptBaseModels:
    """Base models by the digest of their folder, so that what was just trained is not read again."""

    def __init__(self) -> None:
        self._models = Kept[BaseModel](_NUM_KEPT)

    def read(self, folder: Path, expected_digest: str | None) -> BaseModel:
        """Return the base model in a `Format-Training` folder, as `read_base_model` does."""
        key = digest_of_folder(folder) if folder.is_dir() else "no folder"
        if expected_digest not in (None, key):
            return read_base_model(folder, expected_digest)  # it says what is wrong
        return self._models.get(key, lambda: read_base_model(folder, expected_digest))

    def keep(self, folder: Path, model: BaseModel) -> None:
        """Keep a model that was just written to a folder."""
        self._models.keep(digest_of_folder(folder), model)

    def clear(self) -> None:
        """Forget all."""
        self._models.clear()


kept_base_model = KeptBaseModels()


def forget() -> None:
    """Forget everything that is kept, as in a new process."""
    for kept in (_learners, _graphs, kept_base_model):
        kept.clear()
