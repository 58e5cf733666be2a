import json
import os
import re

import pytest
import yaml

from components.drift_gate import DriftGate
from pipeline.config import Config
from pipeline.kubeflow.package import compile_package, config_in_cluster
from pipeline.kubeflow.platform import TASK_IDS
from pipeline.shape import INT_PARAMETERS, typical_shape
from schemas.artifacts import DriftVerdict, ReplayBuffer

SHAPES = ["cold", "warm", "refresh", "score", "judgement"]
EVERY = [*SHAPES, "controller"]
# Argo's rules for names of DAG tasks and of parameters, which the tasks and components become.
TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,120}")
PIPELINE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def tasks_of(spec):
    return spec["root"]["dag"]["tasks"]


def executor_of(spec, node_id):
    return spec["deploymentSpec"]["executors"][spec["components"][node_id]["executorLabel"]]


def containers_of(spec):
    found = {node_id: executor_of(spec, node_id).get("container") for node_id in tasks_of(spec)}
    return {node_id: container for node_id, container in found.items() if container is not None}


def value_of(container, flag):
    return container["args"][container["args"].index(flag) + 1]


@pytest.fixture(params=SHAPES)
def spec(request, specs):
    return specs[request.param][0]


@pytest.fixture(params=EVERY)
def any_spec(request, specs):
    return specs[request.param][0]


@pytest.mark.parametrize("shape", SHAPES)
def test_root_takes_what_a_plan_of_the_shape_gives_and_nothing_else(shape, specs, packages, cluster_config):
    parameters = specs[shape][0]["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == set(typical_shape(cluster_config, shape).parameters) == set(packages[shape].parameters)
    types = {name: "NUMBER_INTEGER" if name in INT_PARAMETERS else "STRING" for name in parameters}
    assert {name: definition["parameterType"] for name, definition in parameters.items()} == types


def test_every_parameter_of_the_root_is_used_and_every_used_one_exists(spec):
    used = {
        given["componentInputParameter"]
        for task in tasks_of(spec).values()
        for given in task.get("inputs", {}).get("parameters", {}).values()
        if "componentInputParameter" in given
    }
    assert used == set(spec["root"]["inputDefinitions"]["parameters"])


def test_every_task_gives_its_component_what_it_declares(any_spec):
    for node_id, task in tasks_of(any_spec).items():
        declared, given = any_spec["components"][node_id].get("inputDefinitions", {}), task.get("inputs", {})
        for kind in ("parameters", "artifacts"):
            assert set(declared.get(kind, {})) == set(given.get(kind, {})), node_id


def test_every_container_knows_image_run_and_command(spec):
    for node_id, container in containers_of(spec).items():
        assert container["image"] == "registry.example/perennial:0.1.0"
        module = "pipeline.kubeflow.recorder" if node_id.startswith("record") else "pipeline.kubeflow.task"
        assert container["command"] == ["python", "-m", module]
        assert value_of(container, "--run-id") == "{{$.inputs.parameters['run_id']}}"
        assert tasks_of(spec)[node_id]["inputs"]["parameters"]["run_id"] == {"componentInputParameter": "run_id"}


def test_node_says_who_it_is_before_the_arguments_of_tfx(specs):
    container = containers_of(specs["warm"][0])["DriftGate"]
    assert value_of(container, "--node-id") == "DriftGate"
    assert value_of(container, "--node-type") == DriftGate.get_class_type()
    assert value_of(container, "--pipeline") == "flights"
    assert value_of(container, "--metadata") == "env:METADATA_URL"
    assert value_of(container, "--code-digest") == "{{$.inputs.parameters['code_digest']}}"
    ours = container["args"].index("--executor_class_path")
    assert container["args"][ours + 1] == "components.drift_gate.DriftGate_Executor"
    assert value_of(container, "--json_serialized_invocation_args") == "{{$}}"
    assert "run_id" not in value_of(container, "--json_serialized_inputs_spec_args")


def test_no_two_containers_are_equal(any_spec):
    # KFP would take their components for one.
    containers = [json.dumps(container, sort_keys=True) for container in containers_of(any_spec).values()]
    assert len(set(containers)) == len(containers)


def test_names_are_those_that_kubeflow_and_argo_allow(any_spec):
    assert PIPELINE_NAME.fullmatch(any_spec["pipelineInfo"]["name"])
    assert any_spec["schemaVersion"] == "2.1.0"
    for node_id, task in tasks_of(any_spec).items():
        assert TASK_NAME.fullmatch(node_id)
        assert not node_id.endswith("-driver")
        assert task["componentRef"]["name"] == task["taskInfo"]["name"] == node_id


def test_every_task_depends_on_tasks_that_exist_and_reads_outputs_that_exist(spec):
    for task in tasks_of(spec).values():
        assert set(task.get("dependentTasks", [])) <= set(tasks_of(spec))
        for given in task["inputs"].get("artifacts", {}).values():
            source = given["taskOutputArtifact"]
            component = spec["components"][source["producerTask"]]
            assert source["outputArtifactKey"] in component["outputDefinitions"]["artifacts"]
        for given in task["inputs"].get("parameters", {}).values():
            assert "taskOutputParameter" not in given


def test_nothing_is_cached_and_containers_are_tried_again(any_spec):
    policy = {
        "maxRetryCount": 2,
        "backoffDuration": "30s",
        "backoffFactor": 2,
        "backoffMaxDuration": "604800s",
    }
    for node_id, task in tasks_of(any_spec).items():
        assert task["cachingOptions"] == {"enableCache": False}
        assert task.get("retryPolicy") == (policy if node_id in containers_of(any_spec) else None)


def test_importers_take_their_uri_from_the_plan_and_stand_outside_conditions(specs):
    spec = specs["warm"][0]
    importers = {node_id for node_id in tasks_of(spec) if "importer" in executor_of(spec, node_id)}
    assert len(importers) == 6
    for node_id in importers:
        assert executor_of(spec, node_id)["importer"]["artifactUri"] == {"runtimeParameter": "artifact_uri"}
        task = tasks_of(spec)[node_id]
        uri = node_id.removesuffix("-importer").replace("-", "_") + "_uri"
        assert task["inputs"]["parameters"] == {"artifact_uri": {"componentInputParameter": uri}}
        assert "triggerPolicy" not in task


@pytest.mark.parametrize(
    ("shape", "limit"), [("cold", 3), ("warm", 2), ("refresh", 2), ("score", 2)], ids=lambda value: str(value)
)
def test_guarded_nodes_run_below_the_limit_and_the_run_is_recorded_either_way(shape, limit, specs):
    tasks = tasks_of(specs[shape][0])
    conditions = {
        node_id: task["triggerPolicy"]["condition"] for node_id, task in tasks.items() if "triggerPolicy" in task
    }
    below = f"(inputs.artifacts['_DriftGate.verdict'].artifacts[0].metadata['verdict'] < {limit}.0)"
    assert conditions.pop("record-blocked") == f"!({below})"
    assert set(conditions.values()) == {below}
    assert "record" in conditions
    guarded = (
        {"Prequential", "ReplayGen"} if shape == "score" else {"ReplayGen", "Trainer", "Evaluator", "Gate", "Pusher"}
    )
    assert guarded <= set(conditions)


def test_judgement_has_no_condition_and_one_record(specs):
    tasks = tasks_of(specs["judgement"][0])
    assert not [node_id for node_id, task in tasks.items() if "triggerPolicy" in task]
    assert "record-blocked" not in tasks
    assert tasks["record"]["dependentTasks"] == ["Gate", "Pusher"]


def test_record_comes_after_every_other_task_of_its_branch(spec):
    tasks = tasks_of(spec)
    before, waiting = set(), ["record"]
    while waiting:
        new = set(tasks[waiting.pop()].get("dependentTasks", [])) - before
        before |= new
        waiting += new
    assert before == set(tasks) - {"record", "record-blocked"}


@pytest.mark.parametrize(
    ("shape", "artifacts"),
    [
        ("cold", {"_DriftGate.verdict", "_Gate.report", "_Trainer.model"}),
        ("warm", {"_DriftGate.verdict", "_Gate.report", "_Trainer.model", "_Prequential.score"}),
        ("score", {"_DriftGate.verdict", "_Prequential.score"}),
        ("judgement", {"_Gate.report"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recorder_gets_the_artifacts_that_it_opens(shape, artifacts, specs):
    tasks = tasks_of(specs[shape][0])
    assert set(tasks["record"]["inputs"]["artifacts"]) == artifacts
    if shape != "judgement":
        assert tasks["record-blocked"]["dependentTasks"] == ["DriftGate"]
        assert set(tasks["record-blocked"]["inputs"]["artifacts"]) == {"_DriftGate.verdict"}


def test_recorder_gets_the_config_as_the_pod_sees_it(specs, cluster_config):
    container = containers_of(specs["cold"][0])["record"]
    assert Config.model_validate_json(value_of(container, "--config")) == config_in_cluster(cluster_config)
    assert value_of(container, "--executor-input") == "{{$}}"


def test_our_artifact_types_are_named_so_that_tfx_can_import_them(packages):
    assert "title: schemas.artifacts.DriftVerdict" in packages["cold"].text
    assert "perennial.DriftVerdict" not in packages["cold"].text
    assert (DriftVerdict.TYPE_NAME, ReplayBuffer.TYPE_NAME) == ("DriftVerdict", "ReplayBuffer")


@pytest.mark.parametrize("shape", EVERY)
def test_sdk_loads_the_package(shape, packages, tmp_path):
    from kfp.components import load_component_from_file

    path = tmp_path / "package.yaml"
    path.write_text(packages[shape].text)
    inputs = load_component_from_file(str(path)).component_spec.inputs or {}
    assert set(inputs) == set(packages[shape].parameters)


def test_platform_knows_every_task_that_a_shape_can_have(specs):
    assert {node_id for spec, _ in specs.values() for node_id in containers_of(spec)} == set(TASK_IDS)


def test_nothing_of_this_machine_and_no_secret_is_in_a_package(packages, cluster_config, monkeypatch):
    monkeypatch.setenv("LEDGER_URL", "postgresql://me:hunter2@db/ledger")
    monkeypatch.setenv("METADATA_URL", "mysql://me:hunter2@db/metadata")
    again = compile_package(cluster_config, typical_shape(cluster_config, "cold"))
    assert again.text == packages["cold"].text
    for package in packages.values():
        # What relative paths of the config would be here.
        assert not any(f"{os.getcwd()}/{folder}/" in package.text for folder in ("schemas", "var"))
        assert "hunter2" not in package.text


def test_version_is_named_by_shape_and_content(packages, cluster_config):
    package = packages["warm"]
    assert package.version_name == f"warm-{package.digest[:12]}"
    other = cluster_config.model_copy(
        update={"kubeflow": cluster_config.kubeflow.model_copy(update={"image": "perennial:0.2.0"})}
    )
    assert compile_package(other, typical_shape(other, "warm")).version_name != package.version_name


def test_text_of_any_language_and_of_several_lines_survives(make_config):
    config = make_config('kubeflow.environment={GREETING: "Grüße\\nan 東京: $(HOME) {{$}}"}')
    spec, _ = yaml.safe_load_all(compile_package(config, typical_shape(config, "judgement")).text)
    environment = containers_of(spec)["Gate"]["env"]
    assert environment[0] == {"name": "GREETING", "value": "Grüße\nan 東京: $(HOME) {{$}}"}
    argument = value_of(containers_of(spec)["record"], "--config")
    # Kubernetes would expand what follows a dollar, and KFP what stands in {{$}}.
    assert "$" not in argument
    assert Config.model_validate_json(argument).kubeflow.environment == {"GREETING": "Grüße\nan 東京: $(HOME) {{$}}"}
