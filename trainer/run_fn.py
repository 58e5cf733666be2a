"""`run_fn`, which TFX's Trainer calls by path. It only connects; every step is in a file of its own."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.digests import digest_of_json
from core.errors import TrainingError
from schemas.analysis import Analysis
from schemas.model_layout import TRAINING_FOLDER
from schemas.training import REPLAY_FOLDER_KEY, REQUEST_KEY, ModelShape, TrainerRequest
from trainer.analysis import read_analysis
from trainer.checkpoint import Checkpoints, Progress
from trainer.conditions import conditions
from trainer.examples import Examples, StreamedExamples, load_examples
from trainer.export import Template, write_serving_folder, write_training_folder
from trainer.fit import FitPlan, fit
from trainer.input_data import TrainingData, matching_files
from trainer.learner import Learner
from trainer.model_state import Arrays, ModelState, state_of
from trainer.objective import strengths
from trainer.optimizer import run_rate
from trainer.probe import ProbeResult, probe
from trainer.replayed_examples import ReplayedExamples, read_replayed_examples
from trainer.reuse import kept_base_model, kept_graph, learner_for
from trainer.starts import Start, possible_starts
from trainer.survey import Survey, survey_examples
from trainer.training_record import ServingProgram, TrainingRecord
from trainer.transform_graph import TransformGraph
from trainer.warm_start import BaseModel, carry_over
from trainer.workers import train_as_first_worker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Inputs:
    """All that a run reads, and the model that it will train.

    Attributes:
        fresh: The model's state as a cold start begins with it.
    """

    request: TrainerRequest
    graph: TransformGraph
    files: tuple[str, ...]
    data: TrainingData
    analysis: Analysis
    base: BaseModel | None
    learner: Learner
    fresh: ModelState

    @property
    def seed(self) -> int:
        """Another for every run of a line: perturbed by the same fresh weights each time, they drift to those."""
        return self.request.options.seed + self.request.line_length

    @property
    def shape(self) -> ModelShape:
        """What the model is built from."""
        return ModelShape(feature_set=self.request.feature_set, model=self.request.options.model)


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
    request = TrainerRequest.model_validate_json(fn_args.custom_config[REQUEST_KEY])
    if request.options.distribution == "multi_worker":
        train_as_first_worker(fn_args)
    else:
        train(fn_args)


def train(fn_args: Any) -> None:
    """Train in this process; arguments as `run_fn` takes them."""
    started = time.monotonic()
    request = TrainerRequest.model_validate_json(fn_args.custom_config[REQUEST_KEY])
    inputs = _read_inputs(fn_args, request)
    # Without the folder: other workers than the first keep their checkpoints elsewhere.
    run_digest = digest_of_json([request.model_dump(mode="json", exclude={"checkpoint_dir"}), inputs.files])
    checkpoints = Checkpoints(Path(request.checkpoint_dir), run_digest)
    start, why = _choose_start(inputs, checkpoints)
    trained = _train(inputs, start, checkpoints, Path(fn_args.model_run_dir))
    seconds = time.monotonic() - started
    # The checkpoints stay until the run is over: a kill between here and the publication of the model would lose it.
    serving_folder = Path(fn_args.serving_model_dir)
    model = inputs.learner.model
    template = Template(Path(fn_args.base_model), inputs.base.record.serving_program) if inputs.base else None
    program = write_serving_folder(serving_folder, model, inputs.graph, inputs.shape, template=template)
    record = _record(inputs, start, why, trained, program, seconds=seconds)
    for note in record.notes:
        _LOG.warning("%s", note)
    training_folder = serving_folder.parent / TRAINING_FOLDER
    write_training_folder(training_folder, model, record, inputs.analysis, trained.fisher)
    # The next run's base model, most likely.
    kept_base_model.keep(training_folder, BaseModel(state_of(model, trained.fisher), record, inputs.analysis))


def _read_inputs(fn_args: Any, request: TrainerRequest) -> _Inputs:
    options, features = request.options, request.feature_set
    graph = kept_graph(Path(fn_args.transform_graph_path), features)
    files = matching_files(fn_args.train_files)
    survey = survey_examples(files, features, graph.raw_types, max_kept=options.max_loaded_examples)
    base = None
    if request.initialisation != "cold":
        base = kept_base_model.read(_base_folder(fn_args.base_model), request.base_model_digest)
        _check_own_preprocessing(base, graph)
    analysis = read_analysis(graph, base=base.analysis if base else None, token_counts=survey.token_counts)
    replayed, replay_folder = None, fn_args.custom_config.get(REPLAY_FOLDER_KEY)
    if base is not None and options.replay_ratio > 0 and replay_folder is not None:
        replayed = read_replayed_examples(Path(replay_folder), options.replay_ratio)
    data = TrainingData(
        _examples(files, survey, graph, replayed, options.max_loaded_examples),
        survey.num_examples,
        options.batch_size,
        options.validation_fraction,
        options.seed + request.line_length,
        replayed,
    )
    learner, fresh = learner_for(request, base.shape if base else None)
    return _Inputs(
        request, graph, (*files, *([replayed.file] if replayed else [])), data, analysis, base, learner, fresh
    )


def _examples(
    files: tuple[str, ...], survey: Survey, graph: TransformGraph, replayed: ReplayedExamples | None, max_loaded: int
) -> Examples:
    """Return the examples in memory, if they are few enough."""
    num_examples = survey.num_examples + (replayed.num_examples if replayed else 0)
    if survey.records is None or num_examples > max_loaded:
        return StreamedExamples(files, graph, replayed.file if replayed else None)
    return load_examples(survey.records, graph, replayed)


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
    request, model, base = inputs.request, inputs.learner.model, inputs.base
    features, options = request.feature_set, request.options
    starts = possible_starts(
        request.initialisation,
        fresh=inputs.fresh,
        moved=carry_over(model, base, inputs.analysis, features, options, fresh=inputs.fresh) if base else None,
        trainable=[variable.path for variable in model.trainable_variables],
        options=options.shrink_perturb,
        line_length=request.line_length,
    )
    if len(starts) == 1:
        return starts[0], None
    result = checkpoints.recall(ProbeResult)
    if result is None:
        result = probe(inputs.learner, starts, inputs.data, options, seed=inputs.seed)
        checkpoints.keep(result)
        _LOG.info("%s", result.why)
    return next(start for start in starts if start.name == result.winner), result.why


def _train(inputs: _Inputs, start: Start, checkpoints: Checkpoints, log_dir: Path) -> _Trained:
    learner, options = inputs.learner, inputs.request.options
    data = inputs.data if start.base else replace(inputs.data, replayed=None)
    num_epochs = options.epochs_warm if start.base else options.epochs_cold
    plan = FitPlan(num_epochs, options.patience_epochs, log_dir, inputs.seed)
    with conditions(learner, start, options, num_steps=num_epochs * data.steps_per_epoch):
        progress = fit(learner, data, plan, checkpoints)
        anchor = learner.model.anchor
        penalties = {name: float(value) for name, value in anchor.penalties(learner.model).items()} if anchor else {}
    fisher = None
    if options.regularisation.ewc > 0:
        examples = data.training(0).dataset()
        fisher = learner.fisher.estimate(examples, options.regularisation.fisher_examples)
    return _Trained(progress, penalties, fisher)


def _record(
    inputs: _Inputs, start: Start, why: str | None, trained: _Trained, program: ServingProgram, *, seconds: float
) -> TrainingRecord:
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
        steps=int(inputs.learner.model.optimizer.iterations.numpy()),
        history=trained.progress.history,
        best_epoch=trained.progress.best_epoch,
        seconds=round(seconds, 3),
        transform_graph_digest=inputs.graph.digest,
        serving_program=program,
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
