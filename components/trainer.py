"""TFX's Trainer, with a replay buffer to read and the digests of all that it read and made on the Model artifact."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.types.channel import BaseChannel, Channel
from tfx.utils import import_utils, json_utils

from core.digests import digest_of_folder
from schemas import provenance
from schemas.artifacts import ReplayBuffer
from schemas.model_layout import SERVING_FOLDER, TRAINING_FOLDER
from schemas.training import PROVENANCE_KEY, REPLAY_FOLDER_KEY
from trainer.training_record import TrainingRecord, read_training_record


@dataclass(frozen=True)
class FnArgs:
    """What a `run_fn` gets: those of TFX's `FnArgs` that concern training, by TFX's names.

    TFX's own class lives beside all of its components, which take seconds to import.
    """

    train_files: list[str]
    transform_graph_path: str
    base_model: str | None
    serving_model_dir: str
    model_run_dir: str
    custom_config: dict[str, Any]


class TrainerExecutor(BaseExecutor):
    """Train, then record provenance, so that lineage needs nothing but ML Metadata."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run `trainer.run_fn.run_fn` and write what it was and did as custom properties of the Model artifact."""
        custom_config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        run_fn = import_utils.import_class_by_path(exec_properties[standard_component_specs.RUN_FN_KEY])
        run_fn(_fn_args(input_dict, output_dict, custom_config))
        (model,) = output_dict[provenance.MODEL_KEY]
        record = read_training_record(Path(model.uri) / TRAINING_FOLDER)
        if record.initialisation == "cold":  # also where a probe compared with a base model
            input_dict = {key: value for key, value in input_dict.items() if key != provenance.BASE_MODEL_KEY}
        written = {**custom_config[PROVENANCE_KEY], **_digests(input_dict, Path(model.uri)), **_history(record)}
        for name, value in written.items():
            if value is not None:
                model.set_string_custom_property(name, value)


class TrainerSpec(standard_component_specs.TrainerSpec):
    """TFX's, and a replay buffer."""

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        provenance.REPLAY_KEY: component_spec.ChannelParameter(type=ReplayBuffer, optional=True),
    }


class Trainer(base_component.BaseComponent):
    """TFX's Trainer for our `run_fn`, with one more optional input.

    Args:
        run_fn: Dotted path of the function that trains.
        examples: Examples of the window.
        transform_graph: The transform graph to train under.
        schema: The data's schema.
        custom_config: The request, and what to record of the run under `PROVENANCE_KEY`, as JSON or as a runtime
            parameter.
        base_model: What a warm start starts from.
        replay: Past examples.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)

    def __init__(
        self,
        run_fn: str,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        schema: BaseChannel,
        custom_config: Any,
        base_model: BaseChannel | None = None,
        replay: BaseChannel | None = None,
    ) -> None:
        super().__init__(
            TrainerSpec(
                run_fn=run_fn,
                examples=examples,
                transform_graph=transform_graph,
                schema=schema,
                base_model=base_model,
                replay=replay,
                custom_config=custom_config,
                train_args=trainer_pb2.TrainArgs(),
                eval_args=trainer_pb2.EvalArgs(),
                model=Channel(type=standard_artifacts.Model),
                model_run=Channel(type=standard_artifacts.ModelRun),
            )
        )


def _fn_args(
    input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], custom_config: dict[str, Any]
) -> FnArgs:
    specs = standard_component_specs
    base, replay = input_dict.get(provenance.BASE_MODEL_KEY), input_dict.get(provenance.REPLAY_KEY)
    (model,), (model_run,) = output_dict[provenance.MODEL_KEY], output_dict[specs.MODEL_RUN_KEY]
    return FnArgs(
        train_files=[f"{uri}/*" for uri in artifact_utils.get_split_uris(input_dict[specs.EXAMPLES_KEY], "train")],
        transform_graph_path=input_dict[provenance.TRANSFORM_GRAPH_KEY][0].uri,
        base_model=str(Path(base[0].uri) / SERVING_FOLDER) if base else None,
        serving_model_dir=str(Path(model.uri) / SERVING_FOLDER),
        model_run_dir=model_run.uri,
        custom_config={**custom_config, **({REPLAY_FOLDER_KEY: replay[0].uri} if replay else {})},
    )


def _digests(input_dict: dict[str, list[Any]], folder: Path) -> dict[str, str | None]:
    return {
        provenance.MODEL_DIGEST: digest_of_folder(folder),
        provenance.TRAINING_DIGEST: digest_of_folder(folder / TRAINING_FOLDER),
        provenance.TRANSFORM_GRAPH_DIGEST: _digest_of(input_dict, provenance.TRANSFORM_GRAPH_KEY),
        provenance.SCHEMA_DIGEST: _digest_of(input_dict, provenance.SCHEMA_KEY),
        provenance.BASE_MODEL_DIGEST: _digest_of(input_dict, provenance.BASE_MODEL_KEY),
    }


def _history(record: TrainingRecord) -> dict[str, str | None]:
    """Return how the run started and what it was held by, as it was done and not only asked."""
    options = record.request.options
    return {
        provenance.INITIALISATION: record.initialisation,
        provenance.INITIALISATION_WHY: record.initialisation_why,
        provenance.REGULARISATION: json.dumps(record.regularisation),
        provenance.REPLAY_RATIO: f"{options.replay_ratio if record.num_replay_examples else 0:g}",
    }


def _digest_of(input_dict: dict[str, list[Any]], key: str) -> str | None:
    artifacts = input_dict.get(key)
    return digest_of_folder(Path(artifacts[0].uri)) if artifacts else None
