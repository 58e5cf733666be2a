"""What a compiled package says, read for running it here; what cannot be done as KFP does it is refused at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError, did_you_mean

SCHEMA_VERSION = "2.1.0"
# Arguments that KFP's driver computes from other values; TFX makes none.
_COMPUTED_ARGUMENTS = ('{"IfPresent":', '{"Concat":')
_AS_ENVIRONMENT = ("secretAsEnv", "configMapAsEnv")


@dataclass(frozen=True)
class TaskSpec:
    """One task of a package.

    Attributes:
        name: Its key in the package.
        node_id: What people call it: the node's id in our DAG.
        task: How it is joined to others (`PipelineTaskSpec`).
        component: Its inputs and outputs (`ComponentSpec`).
        executor: The container or importer behind it (`ExecutorSpec`).
        upstream: Names of the tasks that must have succeeded before.
        cluster_variables: Environment variables that its pod has from secrets and config maps.
    """

    name: str
    node_id: str
    task: Any
    component: Any
    executor: Any
    upstream: frozenset[str]
    cluster_variables: tuple[str, ...] = ()

    @property
    def is_importer(self) -> bool:
        """Whether it only names something that lies there already."""
        return bool(self.executor.WhichOneof("spec") == "importer")


@dataclass(frozen=True)
class PackageSpec:
    """A package that this machine can run.

    Attributes:
        name: Name of the pipeline.
        parameters: Definitions of its runtime parameters (`ParameterSpec`), by name.
        tasks: Its tasks, each after all it depends on.
        default_pipeline_root: Where it wants its artifacts; may be empty.
    """

    name: str
    parameters: Mapping[str, Any]
    tasks: tuple[TaskSpec, ...]
    default_pipeline_root: str = ""

    def task_named(self, name: str) -> TaskSpec:
        """Return a task by its name or node id.

        Raises:
            ConfigError: there is none.
        """
        for task in self.tasks:
            if name in (task.name, task.node_id):
                return task
        known = [task.node_id for task in self.tasks]
        raise ConfigError(
            f"Package {self.name!r} has no task {name!r}. Expected one of {known}.{did_you_mean(name, known)}"
        )


def read_package(text: str) -> PackageSpec:
    """Return what a compiled package says.

    Args:
        text: YAML: the pipeline spec, and possibly a second document with Kubernetes' part.

    Raises:
        ConfigError: it is no package, of another schema version, or uses something that cannot be run here.
    """
    documents = _documents(text)
    try:
        spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise ConfigError(
            f"This is no pipeline spec of Kubeflow Pipelines: {error}. Expected a file of `perennial kubeflow compile`."
        ) from error
    if spec.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"The package has schema version {spec.schema_version!r}. Expected {SCHEMA_VERSION!r}. "
            "Compile it again with `perennial kubeflow compile`."
        )
    platform = documents[1] if len(documents) > 1 else {}
    executors = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    ).executors
    tasks = _in_order({name: _task(spec, executors, platform, name) for name in spec.root.dag.tasks})
    if not tasks:
        name = spec.pipeline_info.name
        raise ConfigError(f"Package {name!r} has no task. Expected a DAG under `root`. Compile it again.")
    return PackageSpec(
        name=spec.pipeline_info.name,
        parameters=dict(spec.root.input_definitions.parameters),
        tasks=tasks,
        default_pipeline_root=spec.default_pipeline_root,
    )


def _documents(text: str) -> list[dict[str, Any]]:
    # libyaml's parser: a package is hundreds of kilobytes.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The package is no YAML: {error}. Expected a file of `perennial kubeflow compile`."
        ) from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ConfigError("The package is empty or no mapping. Compile it again with `perennial kubeflow compile`.")
    return documents


def _task(spec: Any, executors: Mapping[str, Any], platform: Mapping[str, Any], name: str) -> TaskSpec:
    task = spec.root.dag.tasks[name]
    component = spec.components.get(task.component_ref.name)
    if component is None:
        raise _refused(name, f"names a component {task.component_ref.name!r} that is not there")
    executor = executors.get(component.executor_label)
    if executor is None:
        raise _refused(name, "is a DAG of its own or has no executor")
    for complaint in _complaints(spec, task, executor):
        raise _refused(name, complaint)
    return TaskSpec(
        name=name,
        node_id=task.task_info.name or name,
        task=task,
        component=component,
        executor=executor,
        upstream=frozenset({*task.dependent_tasks, *_producers(task)}),
        cluster_variables=tuple(_cluster_variables(platform, component.executor_label)),
    )


def _complaints(spec: Any, task: Any, executor: Any) -> Iterator[str]:
    """Say what of a task cannot be run here as KFP would; where KFP refuses it too, in KFP's sense."""
    kind = executor.WhichOneof("spec")
    if kind not in ("container", "importer"):
        yield f"is a {kind or 'nothing'}, which open-source Kubeflow Pipelines does not run either"
    if kind == "importer" and task.trigger_policy.condition:
        yield "is an importer with a condition, which Kubeflow Pipelines refuses"
    if kind == "importer" and getattr(executor.importer, "download_to_workspace", False):
        yield "imports into a workspace"
    if task.WhichOneof("iterator"):
        yield "is a loop"
    strategies = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy
    if task.trigger_policy.strategy == strategies.ALL_UPSTREAM_TASKS_COMPLETED:
        yield "is an exit handler"
    if missing := sorted({*task.dependent_tasks, *_producers(task)} - set(spec.root.dag.tasks)):
        yield f"waits for tasks that are not there: {missing}"
    for name, parameter in task.inputs.parameters.items():
        if parameter.parameter_expression_selector or parameter.WhichOneof("kind") == "task_final_status":
            yield f"computes its parameter {name!r} by an expression"
    if any(artifact.WhichOneof("kind") != "task_output_artifact" for artifact in task.inputs.artifacts.values()):
        yield "takes an artifact from outside the package"
    if any(argument.strip().startswith(_COMPUTED_ARGUMENTS) for argument in executor.container.args):
        yield "has a computed argument"


def _refused(name: str, complaint: str) -> ConfigError:
    return ConfigError(
        f"Task {name!r} {complaint}. Expected containers and importers in one DAG, as `perennial kubeflow compile` "
        "makes them; run other packages on a cluster."
    )


def _producers(task: Any) -> Iterator[str]:
    for parameter in task.inputs.parameters.values():
        if parameter.WhichOneof("kind") == "task_output_parameter":
            yield parameter.task_output_parameter.producer_task
    for artifact in task.inputs.artifacts.values():
        yield artifact.task_output_artifact.producer_task


def _cluster_variables(platform: Mapping[str, Any], executor_label: str) -> Iterator[str]:
    executors = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for kind in _AS_ENVIRONMENT:
        for source in executors.get(executor_label, {}).get(kind, ()):
            yield from (key["envVar"] for key in source.get("keyToEnv", ()))


def _in_order(tasks: Mapping[str, TaskSpec]) -> tuple[TaskSpec, ...]:
    """Return the tasks so that each comes after all it waits for."""
    ordered: dict[str, TaskSpec] = {}
    while len(ordered) < len(tasks):
        ready = [task for name, task in tasks.items() if name not in ordered and task.upstream <= ordered.keys()]
        if not ready:
            waiting = sorted(tasks.keys() - ordered.keys())
            raise ConfigError(f"Tasks wait for one another: {waiting}. Expected a DAG. Compile it again.")
        ordered.update((task.name, task) for task in ready)
    return tuple(ordered.values())
