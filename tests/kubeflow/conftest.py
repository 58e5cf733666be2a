"""Packages: of conf/flights.yaml on a cluster, and written by hand, small enough to say what their tasks do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.clock import ManualClock
from pipeline.config import Config, load_config
from pipeline.kubeflow.kfp_cluster import KfpCluster
from pipeline.kubeflow.options import KubeflowOptions
from pipeline.kubeflow.package import Package, compile_controller_package, compile_package
from pipeline.shape import typical_shape
from tools.fake_kfp import FakeKfp

STRING = {"parameterType": "STRING"}
ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}


def _input(source: str) -> dict[str, Any]:
    """`task.key` is another task's output, `param:name` one of the package's parameters, anything else a constant."""
    if source.startswith("param:"):
        return {"componentInputParameter": source.removeprefix("param:")}
    return {"runtimeValue": {"constant": source}}


@pytest.fixture
def make_package() -> Callable[..., str]:
    """Write a package: `tasks` by name, each with the keys below, all optional.

    command: what runs, or `python` for a script of this interpreter; args; env; retries; max_duration: of all attempts;
    condition; after: tasks before it; inputs: {name: "task.key"} of artifacts; parameters: {name: constant or
    "param:NAME"}; from_outputs: {name: "task.key"} of parameters; types: {name: definition} of its parameters;
    outputs: names of artifacts; output_parameters: {name: type}; uri: it is an importer; extra: more keys of the task.
    """

    def make(
        tasks: Mapping[str, Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any] | None = None,
        schema_version: str = "2.1.0",
        platform: Mapping[str, Any] | None = None,
    ) -> str:
        spec = {
            "schemaVersion": schema_version,
            "pipelineInfo": {"name": "tiny"},
            "root": {
                "dag": {"tasks": {name: _task(name, task) for name, task in tasks.items()}},
                "inputDefinitions": {"parameters": dict(parameters or {})},
            },
            "components": {f"comp-{name}": _component(name, task) for name, task in tasks.items()},
            "deploymentSpec": {"executors": {f"exec-{name}": _executor(task) for name, task in tasks.items()}},
        }
        return yaml.safe_dump_all([spec, *([platform] if platform else [])])

    return make


def _task(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {key: _input(source) for key, source in task.get("parameters", {}).items()}
    for key, source in task.get("from_outputs", {}).items():
        producer, output = source.split(".")
        parameters[key] = {"taskOutputParameter": {"producerTask": producer, "outputParameterKey": output}}
    artifacts = {}
    for key, source in task.get("inputs", {}).items():
        producer, output = source.split(".")
        artifacts[key] = {"taskOutputArtifact": {"producerTask": producer, "outputArtifactKey": output}}
    written: dict[str, Any] = {
        "taskInfo": {"name": name},
        "componentRef": {"name": f"comp-{name}"},
        "inputs": {"parameters": parameters, "artifacts": artifacts},
        "dependentTasks": list(task.get("after", ())),
    }
    if "uri" in task and str(task["uri"]).startswith("param:"):
        parameters["uri"] = _input(task["uri"])
    if "condition" in task:
        written["triggerPolicy"] = {"condition": task["condition"]}
    if "retries" in task:
        duration = task.get("max_duration", "86400s")
        written["retryPolicy"] = {"maxRetryCount": task["retries"], "backoffDuration": "3600s"}
        if duration:
            written["retryPolicy"]["backoffMaxDuration"] = duration
    return written | task.get("extra", {})


def _component(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [*task.get("parameters", {}), *task.get("from_outputs", {})]
    outputs = ["result"] if "uri" in task else task.get("outputs", ())
    types = task.get("types", {})
    return {
        "executorLabel": f"exec-{name}",
        "inputDefinitions": {
            "parameters": {key: types.get(key, STRING) for key in (*inputs, *types)},
            "artifacts": dict.fromkeys(task.get("inputs", {}), ARTIFACT),
        },
        "outputDefinitions": {
            "artifacts": dict.fromkeys(outputs, ARTIFACT),
            "parameters": {key: {"parameterType": one} for key, one in task.get("output_parameters", {}).items()},
        },
    }


def _executor(task: Mapping[str, Any]) -> dict[str, Any]:
    if "uri" in task:
        is_parameter = str(task["uri"]).startswith("param:")
        uri = {"runtimeParameter": "uri"} if is_parameter else {"constant": task["uri"]}
        return {"importer": {"artifactUri": uri, "typeSchema": {"schemaTitle": "system.Artifact"}}}
    command: Sequence[str] = task.get("command", ["true"])
    if "python" in task:
        command = ["python", "-c", task["python"]]
    env = [{"name": key, "value": value} for key, value in task.get("env", {}).items()]
    return {"container": {"image": "any", "command": list(command), "args": list(task.get("args", ())), "env": env}}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """Read conf/flights.yaml with overrides."""

    def make(*overrides: str) -> Config:
        return load_config(Path("conf/flights.yaml"), overrides)

    return make


@pytest.fixture(scope="session")
def cluster_config(make_config: Callable[..., Config]) -> Config:
    """Return conf/flights.yaml as on a cluster, with cluster.yaml beside this file."""
    tree = yaml.safe_load((Path(__file__).parent / "cluster.yaml").read_text())
    return make_config(*(f"{key}={yaml.safe_dump(value)}" for key, value in tree.items()))


@pytest.fixture(scope="session")
def packages(cluster_config: Config) -> dict[str, Package]:
    """Return the cluster's packages by shape, and the controller's."""
    shapes = [typical_shape(cluster_config, name) for name in ("cold", "warm", "refresh", "score", "judgement")]
    compiled = [compile_package(cluster_config, shape) for shape in shapes]
    return {package.shape: package for package in [*compiled, compile_controller_package(cluster_config)]}


@pytest.fixture(scope="session")
def specs(packages: dict[str, Package]) -> dict[str, list[dict[str, Any]]]:
    """Return pipeline spec and platform spec of each package."""
    return {shape: list(yaml.safe_load_all(package.text)) for shape, package in packages.items()}


@pytest.fixture
def fake_kfp() -> Iterator[FakeKfp]:
    """Serve a fake API of Kubeflow Pipelines on a free port."""
    with FakeKfp() as fake:
        yield fake


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def make_cluster(fake_kfp: FakeKfp, clock: ManualClock) -> Callable[..., KfpCluster]:
    """Reach the fake as the pipeline `flights`; the keywords are options."""

    def make(**options: Any) -> KfpCluster:
        return KfpCluster(KubeflowOptions(**{"host": fake_kfp.url, **options}), "flights", clock=clock)

    return make


@pytest.fixture
def tiny_package(make_package: Callable[..., str]) -> Package:
    """Return a package with an importer and two nodes, which takes a run id and a number."""
    tasks = {"champion": {"uri": "s3://b/k"}, "ExampleGen": {}, "Trainer": {"after": ["ExampleGen"]}, "record": {}}
    number = {"parameterType": "NUMBER_INTEGER"}
    text = make_package(tasks, parameters={"run_id": STRING, "push_version": number}, platform={"platforms": {}})
    return Package(name="flights", shape="cold", text=text, digest="0123456789abcdef")
