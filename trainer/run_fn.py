"""`run_fn`, which TFX's Trainer calls by path. It only connects; every step is in a file of its own."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from core.digests import digest_of_json
from core.errors import TrainingError
from schemas.analysis import Analysis
from schemas.model_layout import TRAINING_FOLDER
from schemas.training import REPLAY_FOLDER_KEY, REQUEST_KEY, TrainerRequest
from trainer.analysis import read_analysis
from trainer.checkpoint import Checkpoints, Progress
from trainer.conditions import conditions
from trainer.export import write_serving_folder, write_training_folder
from trainer.fisher import fisher_information
from trainer.fit import FitPlan, fit
from trainer.heads import Head, head_for
from trainer.input_data import TrainingData, matching_files
from trainer.model import build_model
from trainer.model_state import Arrays, state_of
from trainer.objective import AnchoredModel, strengths
from trainer.optimizer import run_rate
from trainer.probe import ProbeResult, probe
from trainer.replayed_examples import read_replayed_examples
from trainer.starts import Start, possible_starts
from trainer.survey import survey_examples
from trainer.training_record import TrainingRecord
from trainer.transform_graph import TransformGraph
from trainer.warm_start import BaseModel, carry_over, read_base_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Inputs:
    """All that a run reads, and the model that it will train."""

    request: TrainerRequest
    graph: TransformGraph
    data: TrainingData
    analysis: Analysis
    base: BaseModel | None
    model: AnchoredModel
    head: Head


@dataclass(frozen=True)
class _Trained:
    """What came of training, beside the model's weights."""

    progress: Progress
    penalties: dict[str, float]
    fisher: Arrays | None


def run_fn(fn_args: Any) -> None:
    """Train a model as `fn_args.custom_config["request"]` asks and write it where TFX expects it.

    Args:
        fn_args: TFX `FnArgs`. Used: train_files, transform_graph_path, base_model, serving_model_dir, model_run_dir,
            and of custom_config the request and the folder of the replay buffer.
    """
    started = time.monotonic()
    request = TrainerRequest.model_validate_json(fn_args.custom_config[REQUEST_KEY])
    keras.utils.clear_session(free_memory=False)
    # Another seed for every run of a line: perturbed by the same fresh weights each time, they would drift to those.
    keras.utils.set_random_seed(request.options.seed + request.line_length)
    inputs = _read_inputs(fn_args, request)
    run_digest = digest_of_json([request.model_dump(mode="json"), inputs.data.all_files])
    checkpoints = Checkpoints(Path(request.checkpoint_dir), run_digest)
    start, why = _choose_start(inputs, checkpoints)
    trained = _train(inputs, start, checkpoints, Path(fn_args.model_run_dir))
    record = _record(inputs, start, why, trained, seconds=time.monotonic() - started)
    for note in record.notes:
        _LOG.warning("%s", note)
    serving_folder = Path(fn_args.serving_model_dir)
    training_folder = serving_folder.parent / TRAINING_FOLDER
    write_training_folder(training_folder, inputs.model, record, inputs.analysis, trained.fisher)
    # The checkpoints stay until the run is over: a kill between here and the publication of the model would lose it.
    write_serving_folder(serving_folder, inputs.model, inputs.graph)


def _read_inputs(fn_args: Any, request: TrainerRequest) -> _Inputs:
    options, features = request.options, request.feature_set
    graph = TransformGraph(Path(fn_args.transform_graph_path), features)
    files = matching_files(fn_args.train_files)
    survey = survey_examples(files, features, graph.raw_types)
    base = None
    if request.initialisation != "cold":
        base = read_base_model(_base_folder(fn_args.base_model), request.base_model_digest)
        _check_own_preprocessing(base, graph)
    analysis = read_analysis(graph, base=base.analysis if base else None, token_counts=survey.token_counts)
    data = TrainingData(
        files, graph, survey.num_examples, options.batch_size, options.validation_fraction, options.seed
    )
    replay_folder = fn_args.custom_config.get(REPLAY_FOLDER_KEY)
    if base is not None and options.replay_ratio > 0 and replay_folder is not None:
        data = replace(data, replayed=read_replayed_examples(Path(replay_folder), options.replay_ratio))
    model = build_model(features, options)
    return _Inputs(request, graph, data, analysis, base, model, head_for(features.label))


def _base_folder(base_model: str | None) -> Path:
    if base_model is None:
        raise TrainingError(
            "A warm start has no base model. Expected a Model artifact as base_model; received None. "
            "Import the base model that the plan names, or plan a cold start."
        )
    return Path(base_model).parent / TRAINING_FOLDER


def _check_own_preprocessing(base: BaseModel, graph: TransformGraph) -> None:
    """Refuse another graph of a user's own function: nobody knows what that analysed, so no weight could follow."""
    if graph.feature_set.preprocessing_fn is not None and base.record.transform_graph_digest != graph.digest:
        raise TrainingError(
            f"The base model was trained under another transform graph, and what your own preprocessing_fn "
            f"{graph.feature_set.preprocessing_fn!r} analyses is unknown, so weights cannot follow. Expected digest "
            f"{base.record.transform_graph_digest}; received {graph.digest}. "
            "Plan a cold start, or import the base model's transform graph."
        )


def _choose_start(inputs: _Inputs, checkpoints: Checkpoints) -> tuple[Start, str | None]:
    """Return where to begin, and why if there was a choice; a killed run's next attempt begins where it did."""
    request, model, base = inputs.request, inputs.model, inputs.base
    fresh = state_of(model)
    features, options = request.feature_set, request.options
    starts = possible_starts(
        request.initialisation,
        fresh=fresh,
        moved=carry_over(model, base, inputs.analysis, features, options) if base else None,
        trainable=[variable.path for variable in model.trainable_variables],
        options=options.shrink_perturb,
        line_length=request.line_length,
    )
    if len(starts) == 1:
        return starts[0], None
    result = checkpoints.recall(ProbeResult)
    if result is None:
        result = probe(model, starts, inputs.data, options, head=inputs.head)
        checkpoints.keep(result)
        _LOG.info("%s", result.why)
    return next(start for start in starts if start.name == result.winner), result.why


def _train(inputs: _Inputs, start: Start, checkpoints: Checkpoints, log_dir: Path) -> _Trained:
    model, options = inputs.model, inputs.request.options
    data = inputs.data if start.base else replace(inputs.data, replayed=None)
    num_epochs = options.epochs_warm if start.base else options.epochs_cold
    num_steps = num_epochs * data.steps_per_epoch
    with conditions(model, start, options, head=inputs.head, num_steps=num_steps):
        progress = fit(model, data, FitPlan(num_epochs, options.patience_epochs, log_dir), checkpoints)
        penalties = (
            {name: float(value) for name, value in model.anchor.penalties(model).items()} if model.anchor else {}
        )
    fisher = None
    if options.regularisation.ewc > 0:
        examples = data.training(0, 1)
        fisher = fisher_information(model, inputs.head, examples, options.regularisation.fisher_examples)
    return _Trained(progress, penalties, fisher)


def _record(inputs: _Inputs, start: Start, why: str | None, trained: _Trained, *, seconds: float) -> TrainingRecord:
    options, data = inputs.request.options, inputs.data
    return TrainingRecord(
        request=inputs.request,
        num_examples=data.num_examples,
        num_validation_examples=data.num_validation_examples,
        num_replay_examples=data.num_replayed_examples if start.base else 0,
        initialisation=start.name,
        initialisation_why=why,
        line_length=start.line_length,
        learning_rate=run_rate(options, start.line_length),
        regularisation=strengths(options.regularisation) if start.base else {},
        penalties=trained.penalties,
        notes=_notes(inputs, start),
        steps=int(inputs.model.optimizer.iterations),
        history=trained.progress.history,
        best_epoch=trained.progress.best_epoch,
        seconds=round(seconds, 3),
        transform_graph_digest=inputs.graph.digest,
    )


def _notes(inputs: _Inputs, start: Start) -> tuple[str, ...]:
    """Return what did not go as the config asks, a sentence each."""
    notes = []
    options, data = inputs.request.options, inputs.data
    if start.base is None:
        return ()
    if data.replayed is None and options.replay_ratio > 0:
        notes.append(f"There is no replay buffer yet, so replay_ratio={options.replay_ratio:g} had no effect.")
    if data.replayed is not None and (shortage := data.replayed.shortage(data.num_learned_examples)):
        notes.append(shortage)
    if options.regularisation.ewc > 0 and not start.base.fisher:
        notes.append("The base model has no Fisher information, so EWC held nothing; this model has it for the next.")
    return tuple(notes)
