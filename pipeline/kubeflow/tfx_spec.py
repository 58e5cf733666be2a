"""What TFX's own compiler makes of a shape's DAG: a pipeline spec for Kubeflow Pipelines. The one part that loads TFX.

Not in here: what TFX gets wrong or cannot know, which `pipeline.kubeflow.package` changes in the spec.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from pipeline.config import Config
from pipeline.graph import build_graph
from pipeline.shape import INT_PARAMETERS, GraphShape
from schemas import artifacts
from schemas.base import Record

# TFX takes a type of ours only by a name of the form namespace.Title, and its entry point then imports it by that.
_NAMESPACE = "perennial"
_OUR_TYPES = (artifacts.DriftVerdict, artifacts.GateVerdict, artifacts.PrequentialScore, artifacts.ReplayBuffer)


class CompiledGraph(Record):
    """A DAG as TFX compiles it.

    Attributes:
        spec: KFP's pipeline spec, schema 2.1.0.
        node_types: TFX's types of the nodes, by node id, as ML Metadata has them after a local run.
    """

    spec: dict[str, Any]
    node_types: dict[str, str]


def compiled_graph(config: Config, shape: GraphShape, command: tuple[str, ...]) -> CompiledGraph:
    """Return TFX's pipeline spec of a shape, with one root parameter for each that a plan fills in.

    Args:
        config: The pipeline's config, as a pod sees it.
        shape: Which nodes there are.
        command: What every container task runs.
    """
    values = {name: RuntimeParameter(name, int if name in INT_PARAMETERS else str) for name in shape.parameters}
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(
            default_image=config.kubeflow.image,
            default_commands=list(command),
            # 2.0 is TFX's default and loses parameters.
            use_pipeline_spec_2_1=True,
        )
    )
    with _importable_type_names():
        pipeline = build_graph(config, shape, values)
        text = json.dumps(runner.run(pipeline, write_out=False)["pipelineSpec"])
    spec = json.loads(text.replace(f"title: {_NAMESPACE}.", f"title: {artifacts.__name__}."))
    return CompiledGraph(spec=spec, node_types={node.id: node.type for node in pipeline.components})


@contextmanager
def _importable_type_names() -> Iterator[None]:
    """Give our artifact types names that TFX compiles for KFP, and take them back: ML Metadata knows the plain ones."""
    names = {artifact_type: artifact_type.TYPE_NAME for artifact_type in _OUR_TYPES}
    try:
        for artifact_type in _OUR_TYPES:
            artifact_type.TYPE_NAME = f"{_NAMESPACE}.{artifact_type.__name__}"
        yield
    finally:
        for artifact_type, name in names.items():
            artifact_type.TYPE_NAME = name
