import pytest

from core.errors import ConfigError
from pipeline.kubeflow.options import KubeflowOptions
from pipeline.kubeflow.package import compile_controller_package
from pipeline.kubeflow.platform import check_nodes, container_settings, platform_spec, task_settings


def options(**changes):
    return KubeflowOptions.model_validate(changes)


def executor_config(given, node_id="Trainer"):
    label = f"{node_id}_executor"
    return platform_spec(given, {label: node_id})["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]


def test_a_task_has_its_own_resources_instead_of_those_of_all():
    given = options(resources={"cpu": "1", "memory": "4Gi"}, nodes={"Trainer": {"cpu": "4"}})
    assert container_settings(given, "Gate")["resources"] == {
        "resourceCpuRequest": "1",
        "resourceCpuLimit": "1",
        "resourceMemoryRequest": "4Gi",
        "resourceMemoryLimit": "4Gi",
    }
    assert container_settings(given, "Trainer")["resources"] == {"resourceCpuRequest": "4", "resourceCpuLimit": "4"}


def test_an_accelerator_is_a_resource_and_its_nodes_are_chosen():
    given = options(
        nodes={
            "Trainer": {
                "accelerator": "nvidia.com/gpu",
                "accelerator_count": 2,
                "node_selector": {"pool": "training"},
                "tolerations": [{"key": "gpu", "effect": "NoSchedule"}, {"key": "pool", "value": "training"}],
            }
        }
    )
    resources = container_settings(given, "Trainer")["resources"]
    assert resources == {"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "2"}}
    assert executor_config(given) == {
        "nodeSelector": {"labels": {"pool": "training"}},
        "tolerations": [
            {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "pool", "operator": "Equal", "value": "training"},
        ],
    }
    assert executor_config(given, "Gate") == {}


def test_secrets_are_referred_to_and_the_volume_is_mounted_in_every_task():
    given = options(
        image_pull_secret="registry",
        volume={"claim": "perennial", "mount": "/data"},
        secrets={"LEDGER_URL": {"secret": "databases", "key": "ledger"}},
    )
    assert executor_config(given, "Gate") == {
        "secretAsEnv": [{"secretName": "databases", "keyToEnv": [{"secretKey": "ledger", "envVar": "LEDGER_URL"}]}],
        "pvcMount": [{"constant": "perennial", "mountPath": "/data"}],
        "imagePullSecret": [{"secretName": "registry"}],
    }


def test_nothing_asked_for_is_nothing_said():
    # But for the image's name, which a task can only be told.
    image = {"name": "PERENNIAL_IMAGE", "value": "perennial:0.1.0"}
    assert container_settings(options(), "Gate") == {"image": "perennial:0.1.0", "env": [image]}
    assert executor_config(options()) == {}


def test_no_retries_is_no_policy():
    assert "retryPolicy" not in task_settings(options(max_retries=0))
    assert task_settings(options(max_retries=5, retry_backoff_seconds=7))["retryPolicy"]["backoffDuration"] == "7s"


@pytest.mark.parametrize(("wrong", "right"), [("Traner", "Trainer"), ("trainer", "Trainer"), ("recorder", "record")])
def test_resources_of_an_unknown_task_are_refused(wrong, right):
    with pytest.raises(ConfigError, match=rf"kubeflow\.nodes\.{wrong} is no task.*Did you mean '{right}'\?"):
        check_nodes(options(nodes={wrong: {"cpu": "1"}}))


def test_resources_of_a_task_that_only_some_shapes_have_are_no_mistake(make_config):
    compile_controller_package(make_config("kubeflow.nodes.AnalysisExampleGen={cpu: '1'}"))
    with pytest.raises(ConfigError, match=r"kubeflow\.nodes\.Train is no task"):
        compile_controller_package(make_config("kubeflow.nodes.Train={cpu: '1'}"))
