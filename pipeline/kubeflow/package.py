"""Packages for Kubeflow Pipelines: the compiled pipeline of one shape, or the controller that plans in the cluster.

TFX's compiler does most of it (`pipeline.kubeflow.tfx_spec`). Here its spec gets what a run of ours needs: our command
around TFX's entry point, the run id in every task, and the tasks that record the run. The same config, shape and stack
give the same bytes, on any machine.
"""

from typing import Any

import yaml

from core.digests import digest_of_bytes
from pipeline.config import Config
from pipeline.kubeflow.in_cluster import config_in_cluster, controller_config
from pipeline.kubeflow.platform import (
    CONTROLLER,
    RECORD,
    RECORD_BLOCKED,
    check_nodes,
    container_settings,
    platform_spec,
    task_settings,
)
from pipeline.shape import GraphShape
from schemas.base import Record

__all__ = ["Package", "compile_controller_package", "compile_package", "config_in_cluster"]

SCHEMA_VERSION = "2.1.0"
_PYTHON_MODULE = ("python", "-m")
# What every task gets: which run it belongs to, and the digest of the code that planned it.
_TASK_PARAMETERS = ("run_id", "code_digest")
# Environment variable that tells the two recorders apart.
TASK_VARIABLE = "PERENNIAL_TASK"
# KFP replaces it by the whole ExecutorInput, as JSON.
_EXECUTOR_INPUT = "{{$}}"
# Artifacts that `pipeline.record` opens, by node and output; those of nodes that a package lacks do not apply.
_RECORDED = (
    ("DriftGate", "verdict"),
    ("Prequential", "score"),
    ("Trainer", "model"),
    ("Gate", "report"),
)


class Package(Record):
    """A compiled pipeline.

    Attributes:
        name: Name of the pipeline, the same for all its packages.
        shape: Name of the shape, or `controller`.
        text: YAML in two documents: KFP's pipeline spec, and its kubernetes platform spec.
        digest: SHA-256 of the text.
        parameters: Names of the values that a run must give.
    """

    name: str
    shape: str
    text: str
    digest: str
    parameters: tuple[str, ...] = ()

    @property
    def version_name(self) -> str:
        """Name of the uploaded version: another config, shape or stack is another version."""
        return f"{self.shape}-{self.digest[:12]}"


def compile_package(config: Config, shape: GraphShape) -> Package:
    """Return the package of a shape.

    Raises:
        ConfigError: the config names something that the pods would not have.
    """
    from pipeline.kubeflow.tfx_spec import compiled_graph

    check_nodes(config.kubeflow)
    config = config_in_cluster(config)
    graph = compiled_graph(config, shape, (*_PYTHON_MODULE, "pipeline.kubeflow.task"))
    draft = _Draft(config, graph.spec)
    for node_id in sorted(draft.tasks):
        if "importer" in draft.executor(node_id):
            draft.keep_only_uri(node_id)
        else:
            draft.wrap(node_id, graph.node_types[node_id])
    draft.add_recorders()
    return draft.package(shape.name)


def compile_controller_package(config: Config) -> Package:
    """Return the package of one task, which plans in the cluster and runs there what is due.

    Raises:
        ConfigError: the config names something that the pod would not have.
    """
    check_nodes(config.kubeflow)
    config = controller_config(config)
    draft = _Draft(config, {"pipelineInfo": {"name": config.name}, "schemaVersion": SCHEMA_VERSION})
    draft.add(CONTROLLER, module="cli.kubeflow_controller", arguments=("--config", _config_argument(config)))
    return draft.package(CONTROLLER)


class _Draft:
    """A pipeline spec on its way to a package.

    Args:
        config: The pipeline's config, as a pod sees it.
        spec: KFP's pipeline spec, changed in place.
    """

    def __init__(self, config: Config, spec: dict[str, Any]) -> None:
        self._config = config
        self._spec = spec
        self._executors: dict[str, Any] = spec.setdefault("deploymentSpec", {}).setdefault("executors", {})
        self._components: dict[str, Any] = spec.setdefault("components", {})
        self._root: dict[str, Any] = spec.setdefault("root", {})
        self.tasks: dict[str, Any] = self._root.setdefault("dag", {}).setdefault("tasks", {})
        # Container tasks by the labels of their executors.
        self._labels: dict[str, str] = {}

    def executor(self, node_id: str) -> dict[str, Any]:
        """Return what runs a node."""
        executor: dict[str, Any] = self._executors[self._components[node_id]["executorLabel"]]
        return executor

    def keep_only_uri(self, node_id: str) -> None:
        """Take from an importer the parameters that only TFX's own importer reads."""
        for holder in (self._components[node_id]["inputDefinitions"], self.tasks[node_id]["inputs"]):
            holder["parameters"] = {"artifact_uri": holder["parameters"]["artifact_uri"]}
        self.tasks[node_id]["cachingOptions"] = {"enableCache": False}

    def wrap(self, node_id: str, node_type: str) -> None:
        """Put what our entry point needs before the arguments of TFX's own, and what the config says around them."""
        container = self.executor(node_id)["container"]
        metadata = self._config.metadata or f"sqlite:///{self._config.metadata_path}"
        arguments = ["--node-id", node_id, "--node-type", node_type, "--pipeline", self._config.name]
        arguments += ["--run-id", _placeholder("run_id"), "--code-digest", _placeholder("code_digest")]
        arguments += ["--metadata", metadata]
        container["args"] = [*arguments, *container["args"]]
        self._finish(node_id)
        self._take(node_id, *_TASK_PARAMETERS)

    def add_recorders(self) -> None:
        """Add the tasks that record the run: one behind the condition of the guarded nodes, one behind its negation.

        A judgement has no condition, and so only the first.
        """
        policies = (task["triggerPolicy"] for task in self.tasks.values() if "triggerPolicy" in task)
        condition = next((policy["condition"] for policy in policies), None)
        inputs = {_input_key(*source): source for source in _RECORDED if source[0] in self.tasks}
        needed = {name for task in self.tasks.values() for name in task.get("dependentTasks", [])}
        last = [name for name in self.tasks if name not in needed]
        self._add_recorder(RECORD, inputs, after=last, condition=condition)
        if condition is not None:
            decisive = {key: source for key, source in inputs.items() if f"['{key}']" in condition}
            self._add_recorder(RECORD_BLOCKED, decisive, after=[], condition=f"!({condition})")

    def add(self, node_id: str, *, module: str, arguments: tuple[str, ...]) -> None:
        """Add a task that is no TFX node."""
        label = f"{node_id}_executor"
        self._executors[label] = {"container": {"command": [*_PYTHON_MODULE, module], "args": list(arguments)}}
        self._components[node_id] = {"executorLabel": label}
        self.tasks[node_id] = {"componentRef": {"name": node_id}, "taskInfo": {"name": node_id}}
        self._finish(node_id)

    def package(self, shape: str) -> Package:
        """Return the package; with the same content it has the same bytes."""
        documents = [self._spec, platform_spec(self._config.kubeflow, self._labels)]
        text = yaml.dump_all(documents, Dumper=_Dumper, allow_unicode=True, width=120)
        return Package(
            name=self._config.name,
            shape=shape,
            text=text,
            digest=digest_of_bytes(text.encode()),
            parameters=tuple(sorted(_parameters(self._root, "inputDefinitions"))),
        )

    def _add_recorder(
        self, node_id: str, inputs: dict[str, tuple[str, str]], *, after: list[str], condition: str | None
    ) -> None:
        config = _config_argument(self._config)
        arguments = ("--config", config, "--run-id", _placeholder("run_id"), "--executor-input", _EXECUTOR_INPUT)
        self.add(node_id, module="pipeline.kubeflow.recorder", arguments=arguments)
        # KFP takes components of the same container for one, with the inputs of whichever it meets first.
        self.executor(node_id)["container"].setdefault("env", []).append({"name": TASK_VARIABLE, "value": node_id})
        task, component = self.tasks[node_id], self._components[node_id]
        for key, (producer, output) in inputs.items():
            source = {"producerTask": producer, "outputArtifactKey": output}
            task.setdefault("inputs", {}).setdefault("artifacts", {})[key] = {"taskOutputArtifact": source}
            produced = self._components[producer]["outputDefinitions"]["artifacts"][output]
            definitions = component.setdefault("inputDefinitions", {}).setdefault("artifacts", {})
            definitions[key] = {"artifactType": dict(produced["artifactType"])}
        task["dependentTasks"] = sorted({*after, *(producer for producer, _ in inputs.values())})
        if condition is not None:
            task["triggerPolicy"] = {"condition": condition}
        self._take(node_id, "run_id")

    def _finish(self, node_id: str) -> None:
        self.executor(node_id)["container"] |= container_settings(self._config.kubeflow, node_id)
        self.tasks[node_id] |= task_settings(self._config.kubeflow)
        self._labels[self._components[node_id]["executorLabel"]] = node_id

    def _take(self, node_id: str, *names: str) -> None:
        """Hand parameters of the run to a task, as texts."""
        for name in names:
            _parameters(self._root, "inputDefinitions")[name] = {"parameterType": "STRING"}
            _parameters(self._components[node_id], "inputDefinitions")[name] = {"parameterType": "STRING"}
            _parameters(self.tasks[node_id], "inputs")[name] = {"componentInputParameter": name}


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as several lines, for those who review a package."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _parameters(holder: dict[str, Any], section: str) -> dict[str, Any]:
    parameters: dict[str, Any] = holder.setdefault(section, {}).setdefault("parameters", {})
    return parameters


def _placeholder(name: str) -> str:
    """Return what KFP replaces by the value of a task's parameter."""
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _config_argument(config: Config) -> str:
    r"""Return the config as JSON without a `$`: KFP fills in `{{$...}}`, and Kubernetes `$(...)` and `$$`."""
    return config.model_dump_json().replace("$", r"\u0024")


def _input_key(node_id: str, output: str) -> str:
    """Return the key by which TFX names an input that stands in a condition only."""
    return f"_{node_id}.{output}"
