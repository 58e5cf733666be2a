"""TFX's Evaluator, which computes TFMA's metrics in this process where the examples fit, and on Beam beyond."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation, Schema
from tfx.types.system_executions import Evaluate

from components.blessing import fill_blessing
from components.postconditions import declared_counts, require_all_examples, require_no_remains
from monitoring.evaluation import has_bounds, read_evaluation
from monitoring.tfma_accumulators import NoArrayPath
from monitoring.tfma_files import write_evaluation
from monitoring.tfma_in_process import ScoredSplit, evaluate_split, slice_columns
from records.columns import labels_of, read_columns
from records.reading import serialized_batches, split_files
from schemas.engine import EngineOptions
from schemas.features import LabelSpec
from schemas.model_layout import SERVING_FOLDER, SERVING_SIGNATURE, TRAINING_FOLDER
from schemas.provenance import ENGINE
from serving.scoring import Scorer
from trainer.training_record import read_training_record

EVAL_SPLIT = "eval"
# TFX's names of inputs, outputs and execution properties; those of `standard_component_specs` would import all of TFX.
EXAMPLES_KEY = "examples"
MODEL_KEY = "model"
BASELINE_KEY = "baseline_model"
SCHEMA_KEY = "schema"
EVALUATION_KEY = "evaluation"
BLESSING_KEY = "blessing"
CONFIG_KEY = "eval_config"
MODULE_KEY = "module_path"
LABEL_KEY = "label"
ENGINE_KEY = "engine"
# Where TFX looks for `custom_extractors`.
CLASS_LABELS_MODULE = "components.class_labels"

_LOGGER = logging.getLogger(__name__)


class EvaluatorExecutor(BaseBeamExecutor):
    """Write an evaluation of the eval split, as TFX's own executor would; on Beam that one does it itself."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Evaluate by the engine that the split's size asks for, and see that no example is missing."""
        (examples,), (evaluation,) = input_dict[EXAMPLES_KEY], output_dict[EVALUATION_KEY]
        files = split_files(examples.uri, EVAL_SPLIT)
        options = EngineOptions.model_validate_json(exec_properties[ENGINE_KEY])
        num_bytes = sum(file.stat().st_size for file in files)
        engine = options.choose(declared_counts(examples)[EVAL_SPLIT], num_bytes)
        if engine == "in_process":
            try:
                _evaluate(files, input_dict, output_dict, exec_properties)
            except NoArrayPath as reason:
                _LOGGER.warning("Evaluated on Beam, not in process. %s", reason)
                engine = "beam"
        if engine == "beam":
            from tfx.components.evaluator.executor import Executor

            Executor(self._context).Do(input_dict, output_dict, exec_properties)
            require_no_remains(evaluation, by="Evaluator (beam)")
        evaluation.set_string_custom_property(ENGINE, engine)
        overall = read_evaluation(Path(evaluation.uri)).metrics.get((), {})
        # TFMA leaves out a slice without an example, the overall one too.
        counted = overall.get("example_count") if overall else 0
        if counted is not None:
            require_all_examples(examples, {EVAL_SPLIT: int(counted)}, by=f"Evaluator ({engine})")


def _evaluate(
    files: list[Path],
    input_dict: dict[str, list[Any]],
    output_dict: dict[str, list[Any]],
    exec_properties: dict[str, Any],
) -> None:
    from tensorflow_model_analysis.utils import config_util

    (model,), baselines = input_dict[MODEL_KEY], input_dict.get(BASELINE_KEY, [])
    # As TFX's executor does: without a baseline, nothing is asked of changes.
    config = config_util.update_eval_config_with_defaults(
        json_format.Parse(exec_properties[CONFIG_KEY], config_pb2.EvalConfig()),
        has_baseline=bool(baselines),
        rubber_stamp=True,
    )
    config_util.verify_eval_config(config)
    folders = {
        spec.name: Path((baselines[0] if spec.is_baseline else model).uri) / SERVING_FOLDER
        for spec in config.model_specs
    }
    label = _label_of(model, LabelSpec.model_validate_json(exec_properties[LABEL_KEY]))
    evaluated = evaluate_split(config, _score(files, config, label, folders))
    write_evaluation(Path(output_dict[EVALUATION_KEY][0].uri), config, evaluated, model_locations=folders)
    if has_bounds(config):
        fill_blessing(
            output_dict[BLESSING_KEY][0],
            model=model,
            baseline=baselines[0] if baselines else None,
            is_blessed=evaluated.validation.validation_ok,
        )


def _score(files: list[Path], config: Any, label: LabelSpec, folders: dict[str, Path]) -> ScoredSplit:
    """Read what the metrics need of the examples, and score them by each of the config's models."""
    asked = {(spec.signature_name, spec.label_key) for spec in config.model_specs}
    if not asked <= {(SERVING_SIGNATURE, label.name), ("", label.name)}:
        raise NoArrayPath(f"The EvalConfig asks for other signatures or labels than {SERVING_SIGNATURE}: {asked}.")
    scorers = {name: Scorer(folder) for name, folder in folders.items()}
    columns: dict[str, list[Any]] = {name: [] for name in {label.name, *slice_columns(config)}}
    scores: dict[str, list[Any]] = {name: [] for name in scorers}
    for batch in serialized_batches(files):
        for name, values in read_columns(batch, columns).items():
            columns[name].extend(values)
        for name, scorer in scorers.items():
            scores[name].append(scorer(batch))
    return ScoredSplit(
        labels=labels_of(columns[label.name], label),
        scores={name: np.concatenate(of_model) for name, of_model in scores.items()},
        columns=columns,
    )


def _label_of(model: Any, label: LabelSpec) -> LabelSpec:
    """Return the label with the classes that the model was trained with, whatever the config says by now."""
    if label.task != "multiclass":
        return label
    return read_training_record(Path(model.uri) / TRAINING_FOLDER).request.feature_set.label


class EvaluatorSpec(ComponentSpec):
    """Those parts of TFX's that are used here, and two execution properties."""

    PARAMETERS = {
        CONFIG_KEY: ExecutionParameter(type=config_pb2.EvalConfig),
        MODULE_KEY: ExecutionParameter(type=str, optional=True),
        LABEL_KEY: ExecutionParameter(type=str),
        ENGINE_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        EXAMPLES_KEY: ChannelParameter(type=Examples),
        MODEL_KEY: ChannelParameter(type=Model),
        BASELINE_KEY: ChannelParameter(type=Model, optional=True),
        SCHEMA_KEY: ChannelParameter(type=Schema),
    }
    OUTPUTS = {
        EVALUATION_KEY: ChannelParameter(type=ModelEvaluation),
        BLESSING_KEY: ChannelParameter(type=ModelBlessing),
    }
    TYPE_ANNOTATION = Evaluate


class Evaluator(BaseBeamComponent):
    """Metrics of the candidate on the eval split by slice, held against bounds; TFX's Evaluator with our executor.

    Args:
        examples: What to evaluate.
        model: The candidate.
        schema: The data's schema, by which Beam decodes them.
        eval_config: Metrics, slices and thresholds.
        label: `schemas.features.LabelSpec`, as JSON.
        engine: `schemas.engine.EngineOptions`, as JSON.
        baseline_model: The model that change thresholds compare with.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(EvaluatorExecutor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        model: BaseChannel,
        schema: BaseChannel,
        eval_config: config_pb2.EvalConfig,
        label: str,
        engine: str,
        baseline_model: BaseChannel | None = None,
    ) -> None:
        is_multiclass = LabelSpec.model_validate_json(label).task == "multiclass"
        super().__init__(
            EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                schema=schema,
                eval_config=eval_config,
                module_path=CLASS_LABELS_MODULE if is_multiclass else None,
                label=label,
                engine=engine,
                evaluation=Channel(type=ModelEvaluation),
                blessing=Channel(type=ModelBlessing),
            )
        )
