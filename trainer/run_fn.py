"""`run_fn`, which TFX's Trainer calls by path. It only connects; every step is in a file of its own."""

import time
from pathlib import Path
from typing import Any

import keras

from core.digests import digest_of_json
from core.errors import TrainingError
from schemas.model_layout import TRAINING_FOLDER
from schemas.training import REQUEST_KEY, TrainerRequest
from trainer.checkpoint import Checkpoints
from trainer.export import write_serving_folder, write_training_folder
from trainer.fit import FitPlan, fit
from trainer.input_data import TrainingData, matching_files
from trainer.model import build_model
from trainer.survey import survey_examples
from trainer.training_record import TrainingRecord
from trainer.transform_graph import TransformGraph
from trainer.warm_start import carry_over


def run_fn(fn_args: Any) -> None:
    """Train a model as `fn_args.custom_config["request"]` asks and write it where TFX expects it.

    Args:
        fn_args: TFX `FnArgs`. Used: train_files, transform_graph_path, base_model, serving_model_dir, model_run_dir.
    """
    started = time.monotonic()
    request = TrainerRequest.model_validate_json(fn_args.custom_config[REQUEST_KEY])
    options = request.options
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(options.seed)
    graph = TransformGraph(Path(fn_args.transform_graph_path), request.feature_set)
    files = matching_files(fn_args.train_files)
    num_examples = survey_examples(files, request.feature_set, graph.raw_types).num_examples
    data = TrainingData(files, graph, num_examples, options.batch_size, options.validation_fraction, options.seed)
    model = build_model(request.feature_set, options)
    num_epochs = options.epochs_cold
    if request.initialisation == "warm":
        num_epochs = options.epochs_warm
        carry_over(model, _base_folder(fn_args.base_model), request.base_model_digest, graph.digest)
    checkpoints = Checkpoints(Path(request.checkpoint_dir), digest_of_json([request.model_dump(mode="json"), files]))
    progress = fit(model, data, FitPlan(num_epochs, options.patience_epochs, Path(fn_args.model_run_dir)), checkpoints)
    record = TrainingRecord(
        request=request,
        num_examples=num_examples,
        num_validation_examples=data.num_validation_examples,
        steps=int(model.optimizer.iterations),
        history=progress.history,
        best_epoch=progress.best_epoch,
        seconds=round(time.monotonic() - started, 3),
        transform_graph_digest=graph.digest,
    )
    serving_folder = Path(fn_args.serving_model_dir)
    write_training_folder(serving_folder.parent / TRAINING_FOLDER, model, record)
    write_serving_folder(serving_folder, model, graph)
    checkpoints.clear()


def _base_folder(base_model: str | None) -> Path:
    if base_model is None:
        raise TrainingError(
            "A warm start has no base model. Expected a Model artifact as base_model; received None. "
            "Import the base model that the plan names, or plan a cold start."
        )
    return Path(base_model).parent / TRAINING_FOLDER
