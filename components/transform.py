"""Transform, in this process or on Beam, which can also build the graph on what a base model's was analysed to.

TFX's own executor runs on Beam. What the analysis computes in process is in `transform.in_process`.
"""

import functools
import logging
import tempfile
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import transform_pb2
from tfx.types import standard_component_specs
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.standard_artifacts import Model, TransformGraph
from tfx.utils import json_utils

from components.postconditions import declared_counts, require_all_examples, require_no_remains
from records.reading import split_files
from schemas.analysis import BASE_ANALYSIS_KEY
from schemas.engine import EngineOptions
from schemas.features import FEATURE_SET_KEY
from schemas.loader import load_schema
from schemas.model_layout import TRAINING_FOLDER
from schemas.provenance import BASE_MODEL_KEY, ENGINE, ENGINE_WHY, EXAMPLES_KEY, SCHEMA_KEY, TRANSFORM_GRAPH_KEY
from trainer.analysis import load_analysis

ENGINE_OPTIONS_KEY = "engine"  # EngineOptions, as JSON
PREPROCESSING_FN = "transform.preprocessing.preprocessing_fn"
SPLIT = "train"  # a graph must know nothing of the split that a model is judged on

_LOGGER = logging.getLogger(__name__)


class TransformExecutor(BaseBeamExecutor):
    """Analyse the train split and write the graph, as a refresh where there is a base model."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Choose the engine by the size of the split, run it, and check that it analysed every example."""
        exec_properties = _with_base_analysis(input_dict.get(BASE_MODEL_KEY, []), exec_properties)
        (examples,), (graph,) = input_dict[EXAMPLES_KEY], output_dict[TRANSFORM_GRAPH_KEY]
        files = split_files(examples.uri, SPLIT)
        options = EngineOptions.model_validate_json(exec_properties[ENGINE_OPTIONS_KEY])
        num_bytes = sum(file.stat().st_size for file in files)
        engine, why = options.choose(declared_counts(examples)[SPLIT], num_bytes), ""
        if engine == "in_process":
            (schema,) = input_dict[SCHEMA_KEY]
            num_read, why = _analyse_in_process(schema, files, graph, exec_properties)
            engine = "beam" if why else engine
        if engine == "beam":
            num_read = self._analyse_on_beam(input_dict, output_dict, exec_properties)
        for count in num_read:
            require_all_examples(examples, {SPLIT: count}, by=f"Transform ({engine})")
        graph.set_string_custom_property(ENGINE, engine)
        if why:
            graph.set_string_custom_property(ENGINE_WHY, why)

    def _analyse_on_beam(
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> list[int]:
        """Run TFX's executor, and return how many examples each pass analysed, as Beam counted them."""
        from tfx.components.transform.executor import Executor

        pipelines = []

        def make_pipeline() -> Any:
            pipelines.append(self._make_beam_pipeline())
            return pipelines[-1]

        context = Executor.Context(self._beam_pipeline_args, make_beam_pipeline_fn=make_pipeline)
        Executor(context).Do(input_dict, output_dict, exec_properties)
        require_no_remains(output_dict[TRANSFORM_GRAPH_KEY][0], by="Transform (beam)")
        return [count for pipeline in pipelines for count in _counted(pipeline.result)]


class TransformSpec(standard_component_specs.TransformSpec):
    """TFX's Transform, with one more input and one more parameter."""

    INPUTS = {
        **standard_component_specs.TransformSpec.INPUTS,
        BASE_MODEL_KEY: ChannelParameter(type=Model, optional=True),
    }
    PARAMETERS = {
        **standard_component_specs.TransformSpec.PARAMETERS,
        ENGINE_OPTIONS_KEY: ExecutionParameter(type=str),
    }


class Transform(BaseBeamComponent):
    """The transform graph of a feature set, with its vocabularies, analysed on the train split.

    It writes what TFX's Transform writes where nothing transformed is stored and no statistics are computed: the
    Trainer maps the graph over raw examples, and TFDV ran already. TFX's class is no base: importing it loads all of
    TFX's components, and with them TFMA.

    Args:
        examples: Examples to analyse.
        schema: Reviewed schema.
        feature_set: A `schemas.features.FeatureSet` as JSON.
        engine: `schemas.engine.EngineOptions` as JSON.
        base_model: Model whose transform graph is refreshed; None to analyse everything anew.
    """

    SPEC_CLASS = TransformSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(TransformExecutor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        schema: BaseChannel,
        feature_set: str,
        engine: str,
        base_model: BaseChannel | None = None,
    ) -> None:
        spec = TransformSpec(
            examples=examples,
            schema=schema,
            transform_graph=Channel(TransformGraph),
            preprocessing_fn=PREPROCESSING_FN,
            custom_config=json_utils.dumps({FEATURE_SET_KEY: feature_set}),
            splits_config=transform_pb2.SplitsConfig(analyze=[SPLIT], transform=[SPLIT]),
            force_tf_compat_v1=0,
            disable_statistics=1,
            engine=engine,
            **({BASE_MODEL_KEY: base_model} if base_model else {}),
        )
        super().__init__(spec)


def _with_base_analysis(base_models: list[Any], exec_properties: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with the base model's analysis, if there is one, where `preprocessing_fn` looks for it."""
    for base_model in base_models:
        analysis = load_analysis(Path(base_model.uri) / TRAINING_FOLDER)
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        config[BASE_ANALYSIS_KEY] = analysis.model_dump_json()
        exec_properties = {**exec_properties, standard_component_specs.CUSTOM_CONFIG_KEY: json_utils.dumps(config)}
    return exec_properties


def _analyse_in_process(
    schema: Any, files: list[Path], graph: Any, exec_properties: dict[str, Any]
) -> tuple[list[int], str]:
    """Return how many examples each pass analysed, or why only Beam can run what is to be analysed."""
    from transform.in_process import InProcessTransform
    from transform.preprocessing import preprocessing_fn

    config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
    function = functools.partial(preprocessing_fn, custom_config=config)
    with tempfile.TemporaryDirectory() as folder:
        transform = InProcessTransform(function, load_schema(Path(schema.uri) / "schema.pbtxt"), Path(folder))
        if transform.unknown_nodes:
            why = f"preprocessing_fn uses what only Beam can analyse: {', '.join(transform.unknown_nodes)}"
            _LOGGER.warning("Transform runs on Beam: %s.", why)
            return [], why
        findings = transform.analyse(files)
        transform.write(findings, Path(graph.uri))
        return findings.num_read, ""


def _counted(result: Any) -> list[int]:
    """Return how many examples each pass of a finished Beam pipeline was given, by TensorFlow Transform's counter."""
    from apache_beam.metrics.metric import MetricsFilter
    from tensorflow_transform.beam.common import METRICS_NAMESPACE

    counted = MetricsFilter().with_namespace(METRICS_NAMESPACE).with_name("num_instances")
    # A runner that counts nothing cannot say that nothing was lost.
    return [counter.result for counter in result.metrics().query(counted)["counters"]] or [0]
