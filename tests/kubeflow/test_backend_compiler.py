"""Packages are what Kubeflow Pipelines' own server takes them for: its Go code compiles them, Argo's validates them.

KFP_COMPILER names a compiler that was built from tests/kubeflow/go before; without it one is built, which takes minutes
the first time and nothing after. Where that cannot be, all of these tests are skipped, with the reason.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from core.digests import digest_of_bytes
from pipeline.kubeflow.conditions import condition_holds
from pipeline.kubeflow.package import Package
from pipeline.shape import INT_PARAMETERS
from schemas import provenance
from schemas.verdicts import Verdict

pytestmark = pytest.mark.slow

SHAPES = ["cold", "warm", "refresh", "score", "judgement"]
EVERY = [*SHAPES, "controller"]
# The nodes behind the drift gate begin at this verdict to be left out.
LIMITS = {"cold": Verdict.BLOCK, "warm": Verdict.COLD_START, "refresh": Verdict.COLD_START, "score": Verdict.COLD_START}
SOURCES = Path(__file__).parent / "go"
BUILD_SECONDS = 1800  # 1,300 packages, on two processors that others use too
RUN_SECONDS = 60
# What the go command says where the module proxy does not answer, or refuses, or Go itself is too old: line and detail.
NOT_BUILT_HERE = re.compile(r"^.*(?:reading https?://|dial tcp|GOPROXY=off|requires go >=).*(?:\n\s+.*)?", re.MULTILINE)
# A request to Kubernetes' store may have 1.5 MiB; Argo adds the state of every task to the workflow.
MAX_WORKFLOW_BYTES = 500_000


class Compiler:
    """KFP's own code behind a command line; see tests/kubeflow/go/main.go."""

    def __init__(self, command: Path, folder: Path) -> None:
        self._command = command
        self._folder = folder

    def workflow(self, text: str, parameters: Mapping[str, str | int]) -> "Workflow":
        """Return the workflow of a run, or raise what the API server answers."""
        return Workflow(json.loads(self._run("workflow", text, json.dumps(dict(parameters)), "parameters.json")))

    def condition(self, executor_input: Mapping[str, Any], expression: str) -> bool:
        """Tell what the driver of a task with these inputs finds."""
        return bool(json.loads(self._run("condition", json.dumps(executor_input), expression)))

    def _run(self, command: str, first: str, second: str, file: str = "") -> str:
        (self._folder / "first").write_text(first, encoding="utf-8")
        if file:
            (self._folder / file).write_text(second, encoding="utf-8")
            second = str(self._folder / file)
        arguments = [self._command, command, self._folder / "first", second]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=RUN_SECONDS)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout


class Workflow:
    """An Argo Workflow, as far as these tests ask."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.size_bytes = len(json.dumps(document))
        self.name_prefix = document["metadata"]["generateName"]
        spec = document["spec"]
        self._arguments = _by_name(spec["arguments"]["parameters"])
        self._templates = {template["name"]: template for template in spec["templates"]}
        self.tasks = {task["name"]: task for task in self._templates["root"]["dag"]["tasks"]}

    @property
    def nodes(self) -> set[str]:
        """Names of what runs, without the drivers that KFP puts before containers."""
        return set(self.tasks) - {f"{name}-driver" for name in self.tasks}

    @property
    def importers(self) -> set[str]:
        """Names of the importers."""
        return {name for name in self.nodes if self.tasks[name]["template"] == "system-importer"}

    def upstream(self, name: str) -> set[str]:
        """Return what must have succeeded before."""
        first = self.tasks.get(f"{name}-driver", self.tasks[name])
        return set(first["depends"].replace(".Succeeded", "").split(" && ")) if first.get("depends") else set()

    def given(self, name: str, what: str) -> Any:
        """Return what a node's driver or importer is given: `component`, `task`, `container`, `importer`."""
        task = self.tasks.get(f"{name}-driver", self.tasks[name])
        text = _by_name(task["arguments"]["parameters"])[what]
        reference = re.fullmatch(r"\{\{workflow\.parameters\.(.+)}}", text)
        return json.loads(self._arguments[reference[1]] if reference else text)

    def platform(self, name: str) -> Any:
        """Return what Kubernetes is told of a node's pod."""
        return json.loads(self._arguments[f"kubernetes-{name}"])

    def retries(self, name: str) -> dict[str, str]:
        """Return the retry parameters of a node that reach Argo's own strategy."""
        given = _by_name(self.tasks[name]["arguments"]["parameters"])
        executor = self._templates[self.tasks[name]["template"]]["dag"]["tasks"][0]
        strategy = json.dumps(self._templates[executor["template"]].get("retryStrategy", {}))
        return {key: given[key] for key in re.findall(r"inputs\.parameters\.([\w-]+)", strategy)}


def _by_name(parameters: list[dict[str, str]]) -> dict[str, str]:
    return {parameter["name"]: parameter["value"] for parameter in parameters}


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    named = os.environ.get("KFP_COMPILER")
    return Compiler(Path(named) if named else _built_compiler(), tmp_path_factory.mktemp("backend"))


def _built_compiler() -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("NOT COMPILED by KFP's own compiler: no go here. Install Go, or name a compiler in KFP_COMPILER.")
    sources = {file.name: file.read_bytes() for file in sorted(SOURCES.iterdir())}
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "perennial" / f"kfp-compiler-{digest_of_bytes(b''.join(sources.values()))[:12]}"
    command = folder / "compiler"
    if not command.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in sources.items():
            (folder / name).write_bytes(content)
        _build(go, folder, command)
    return command


def _build(go: str, folder: Path, command: Path) -> None:
    partial = folder / f"compiler.{os.getpid()}"
    build = [go, "build", "-mod=readonly", "-ldflags=-s -w", "-o", partial.name, "."]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if done.returncode == 0:
        partial.rename(command)
        return
    if answer := NOT_BUILT_HERE.search(done.stderr):
        pytest.skip(
            "NOT COMPILED by KFP's own compiler, which cannot be built here. Name one that was built elsewhere in "
            f"KFP_COMPILER. What go answered: {' '.join(answer[0].split())}"
        )
    pytest.fail(f"tests/kubeflow/go does not build: {done.stderr[-2000:]}", pytrace=False)


@pytest.fixture(scope="session")
def make_workflow(compiler: Compiler, packages: dict[str, Package]) -> Callable[[str], Workflow]:
    """Make the workflow of a run of a package, once each."""
    made: dict[str, Workflow] = {}

    def make(shape: str) -> Workflow:
        if shape not in made:
            made[shape] = compiler.workflow(packages[shape].text, values_for(packages[shape]))
        return made[shape]

    return make


def values_for(package: Package) -> dict[str, str | int]:
    return {name: 7 if name in INT_PARAMETERS else f"minio://mlpipeline/{name}" for name in package.parameters}


def tasks_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    tasks: dict[str, Any] = spec["root"]["dag"]["tasks"]
    return tasks


def executor_of(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    executor: dict[str, Any] = spec["deploymentSpec"]["executors"][spec["components"][name]["executorLabel"]]
    return executor


@pytest.mark.parametrize("shape", EVERY)
def test_every_task_of_the_package_is_in_the_workflow(shape, make_workflow, specs):
    workflow, spec = make_workflow(shape), specs[shape][0]
    assert workflow.nodes == set(tasks_of(spec))
    assert workflow.importers == {name for name in tasks_of(spec) if "importer" in executor_of(spec, name)}
    assert {f"{name}-driver" for name in workflow.nodes - workflow.importers} == set(workflow.tasks) - workflow.nodes
    assert workflow.name_prefix == "flights-"
    assert workflow.size_bytes < MAX_WORKFLOW_BYTES


@pytest.mark.parametrize("shape", EVERY)
def test_tasks_wait_for_what_they_read_and_for_what_they_name(shape, make_workflow, specs):
    workflow, spec = make_workflow(shape), specs[shape][0]
    for name, task in tasks_of(spec).items():
        read = task.get("inputs", {}).get("artifacts", {}).values()
        producers = {source["taskOutputArtifact"]["producerTask"] for source in read}
        assert workflow.upstream(name) == producers | set(task.get("dependentTasks", ())), name


@pytest.mark.parametrize("shape", LIMITS)
def test_record_waits_for_all_that_is_behind_the_condition_and_record_blocked_for_none_of_it(shape, make_workflow):
    workflow = make_workflow(shape)
    guarded = {name for name, task in workflow.tasks.items() if "when" in task} - {"record-blocked"}
    before, waiting = set(), ["record"]
    while waiting:
        upstream = workflow.upstream(waiting.pop())
        waiting += upstream - before
        before |= upstream
    assert "DriftGate" not in guarded
    assert guarded - before == {"record"}
    assert workflow.upstream("record-blocked") == {"DriftGate"}


@pytest.mark.parametrize("shape", EVERY)
def test_every_task_has_its_own_component_and_container(shape, make_workflow, specs):
    # KFP keeps one component for all whose containers are equal.
    workflow, spec = make_workflow(shape), specs[shape][0]
    for name in workflow.nodes - workflow.importers:
        assert workflow.given(name, "component")["executorLabel"] == spec["components"][name]["executorLabel"]
        container = workflow.given(name, "container")
        assert container["image"] == "registry.example/perennial:0.1.0"
        assert container["command"] == executor_of(spec, name)["container"]["command"]
        assert container["args"] == executor_of(spec, name)["container"]["args"]


@pytest.mark.parametrize("shape", SHAPES)
def test_importers_stand_outside_conditions_and_take_their_uri_from_the_run(shape, make_workflow):
    workflow = make_workflow(shape)
    for name in workflow.importers:
        assert "when" not in workflow.tasks[name]
        assert workflow.upstream(name) == set()
        (parameter,) = workflow.given(name, "task")["inputs"]["parameters"].items()
        key, source = parameter
        assert workflow.given(name, "importer")["artifactUri"] == {"runtimeParameter": key}
        role = name.removesuffix("-importer").replace("-", "_")
        assert source == {"componentInputParameter": f"{role}_uri"}


def executor_input(verdict: Verdict) -> dict[str, Any]:
    # As the driver makes it: numbers are doubles, artifacts have no type, and more metadata than ours.
    metadata = {provenance.DRIFT_VERDICT: float(verdict), "display_name": "verdict", "store_session_info": "{}"}
    artifact = {"name": "17", "uri": "minio://b/k", "type": {"instanceSchema": ""}, "metadata": metadata}
    values = {"run_id": "r"}
    return {"inputs": {"parameterValues": values, "artifacts": {"_DriftGate.verdict": {"artifacts": [artifact]}}}}


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.word)
@pytest.mark.parametrize("shape", LIMITS)
def test_driver_runs_what_the_verdict_allows(shape, verdict, compiler, make_workflow):
    workflow = make_workflow(shape)
    answers = {}
    for name, task in workflow.tasks.items():
        if "when" not in task:
            continue
        assert task["when"] == f"{{{{tasks.{name}-driver.outputs.parameters.condition}}}} != false"
        written = workflow.given(name, "task")
        assert "_DriftGate.verdict" in written["inputs"]["artifacts"]
        condition = written["triggerPolicy"]["condition"]
        if condition not in answers:
            answers[condition] = compiler.condition(executor_input(verdict), condition)
        assert answers[condition] is ((verdict < LIMITS[shape]) is (name != "record-blocked")), name
    assert len(answers) == 2


EXPRESSIONS = [
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['verdict'] < 2",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['verdict'] == 1.0",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['verdict'] == 1",
    "!(inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['verdict'] > 1.0) || false",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].uri == 'minio://b/k'",
    "'missing' in inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['missing'] < 2.0",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['display_name'] < 2.0",
    "inputs.artifacts['_DriftGate.verdict'].artifacts[1].uri != ''",
    "inputs.artifacts['none'].artifacts[0].uri != ''",
    "inputs.parameter_values['run_id'] == 'r'",
    "inputs.parameterValues['run_id'] == 'r'",
    "inputs.parameter_values['run_id']",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_run_local_finds_the_same_of_a_condition_as_the_driver(expression, compiler):
    given = executor_input(Verdict.WARN)
    message = json_format.ParseDict(given, pipeline_spec_pb2.ExecutorInput())
    assert answer_of(condition_holds, expression, message) == answer_of(compiler.condition, given, expression)


def answer_of(ask: Callable[..., bool], *arguments: Any) -> bool | None:
    """Return what is answered, or None where the expression has no value."""
    try:
        return ask(*arguments)
    except Exception:
        return None


@pytest.mark.parametrize("shape", EVERY)
def test_every_pod_gets_secrets_by_reference_the_volume_and_its_nodes(shape, make_workflow, cluster_config):
    workflow = make_workflow(shape)
    pool = cluster_config.kubeflow.nodes["Trainer"]
    for name in workflow.nodes - workflow.importers:
        platform = workflow.platform(name)
        given = {
            (each["envVar"], secret["secretName"], each["secretKey"])
            for secret in platform["secretAsEnv"]
            for each in secret["keyToEnv"]
        }
        assert given == {("LEDGER_URL", "databases", "ledger"), ("METADATA_URL", "databases", "metadata")}
        assert platform["pvcMount"] == [{"constant": "perennial", "mountPath": "/perennial"}]
        assert platform["imagePullSecret"] == [{"secretName": "registry"}]
        assert platform.get("nodeSelector") == ({"labels": pool.node_selector} if name == "Trainer" else None)
        tolerated = [toleration["key"] for toleration in platform.get("tolerations", [])]
        assert tolerated == (["nvidia.com/gpu", "pool"] if name == "Trainer" else [])


def test_resources_reach_the_container(make_workflow):
    workflow = make_workflow("warm")
    trainer = workflow.given("Trainer", "container")["resources"]
    assert (trainer["resourceCpuLimit"], trainer["resourceMemoryRequest"]) == ("4", "16Gi")
    assert trainer["accelerator"] == {"resourceCount": "1", "resourceType": "nvidia.com/gpu"}
    other = workflow.given("Gate", "container")["resources"]
    assert (other["resourceCpuLimit"], other["resourceMemoryLimit"], other.get("accelerator")) == ("1", "4Gi", None)


@pytest.mark.parametrize("shape", EVERY)
def test_argo_retries_every_container(shape, make_workflow, cluster_config):
    workflow, options = make_workflow(shape), cluster_config.kubeflow
    for name in workflow.nodes - workflow.importers:
        retries = workflow.retries(name)
        assert retries["retry-max-count"] == str(options.max_retries)
        assert retries["retry-backoff-duration"] == str(options.retry_backoff_seconds)
        # Argo counts from the first attempt's start and takes a missing one for nought: then it never retries.
        assert int(retries["retry-backoff-max-duration"]) >= 24 * 3600


def test_server_refuses_a_run_without_a_parameter(compiler, packages):
    values = values_for(packages["cold"])
    del values["span"]
    with pytest.raises(RuntimeError, match="parameter span is not optional"):
        compiler.workflow(packages["cold"].text, values)


def test_server_refuses_a_parameter_of_another_type(compiler, packages):
    with pytest.raises(RuntimeError, match="push_version requires type double or integer"):
        compiler.workflow(packages["cold"].text, values_for(packages["cold"]) | {"push_version": "7"})
