"""TFX's Transform, which can also build the transform graph on what a base model's graph was analysed to."""

from pathlib import Path
from typing import Any

from tfx.components import Transform as TfxTransform
from tfx.components.transform.executor import Executor
from tfx.dsl.components.base import executor_spec
from tfx.types.channel import BaseChannel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_artifacts import Model
from tfx.types.standard_component_specs import CUSTOM_CONFIG_KEY
from tfx.utils import json_utils

from schemas.analysis import BASE_ANALYSIS_KEY
from schemas.model_layout import TRAINING_FOLDER
from trainer.analysis import load_analysis

BASE_MODEL_KEY = "base_model"


class TransformExecutor(Executor):
    """Analyse and build the graph, as a refresh where there is a base model."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Hand the base model's analysis to `preprocessing_fn` by its custom config, then run TFX's executor."""
        for base_model in input_dict.get(BASE_MODEL_KEY, []):
            analysis = load_analysis(Path(base_model.uri) / TRAINING_FOLDER)
            config = json_utils.loads(exec_properties[CUSTOM_CONFIG_KEY])
            config[BASE_ANALYSIS_KEY] = analysis.model_dump_json()
            exec_properties = {**exec_properties, CUSTOM_CONFIG_KEY: json_utils.dumps(config)}
        super().Do(input_dict, output_dict, exec_properties)


class Transform(TfxTransform):
    """TFX's Transform with our executor and one more input.

    Args:
        base_model: Model whose transform graph is refreshed; None to analyse everything anew.
        **options: What TFX's Transform takes.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(TransformExecutor)

    def __init__(self, *, base_model: BaseChannel | None = None, **options: Any) -> None:
        super().__init__(**options)
        if base_model is not None:
            # TFX's constructor makes the spec itself, and no subclass of it: the input is added to what it made.
            self.spec.INPUTS = {**self.spec.INPUTS, BASE_MODEL_KEY: ChannelParameter(type=Model, optional=True)}
            self.spec.inputs[BASE_MODEL_KEY] = base_model
