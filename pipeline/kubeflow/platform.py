"""What Kubernetes is told of each task: image, environment, resources and nodes, secrets by reference, the volume.

Two places say it: the container in the pipeline spec, and KFP's kubernetes platform spec beside it. The platform spec
is written with the plain strings that every release of KFP v2 reads, not with their newer parameter forms.
"""

from collections.abc import Iterable
from typing import Any

from core.errors import ConfigError, did_you_mean
from pipeline.kubeflow.options import IMAGE_VARIABLE, KubeflowOptions, ResourceOptions, Toleration

RECORD = "record"
RECORD_BLOCKED = "record-blocked"
CONTROLLER = "controller"
# Argo tries again until then, counted from the first attempt's start with all running time; without it, never.
_RETRY_SECONDS = 7 * 24 * 3600
# Every container task that a package of some shape may have; single ones can have resources of their own.
TASK_IDS = (
    "ExampleGen",
    "WindowExampleGen",
    "AnalysisExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "WindowStatisticsGen",
    "ExampleValidator",
    "DriftGate",
    "Prequential",
    "ReplayGen",
    "Transform",
    "Trainer",
    "Evaluator",
    "Gate",
    "Pusher",
    RECORD,
    RECORD_BLOCKED,
    CONTROLLER,
)


def check_nodes(options: KubeflowOptions) -> None:
    """Refuse resources for a task that no package has.

    Raises:
        ConfigError: with the nearest known task.
    """
    for node_id in options.nodes:
        if node_id not in TASK_IDS:
            raise ConfigError(
                f"kubeflow.nodes.{node_id} is no task of any package. Expected one of {', '.join(TASK_IDS)}. Rename "
                f"it.{did_you_mean(node_id, TASK_IDS)}"
            )


def container_settings(options: KubeflowOptions, node_id: str) -> dict[str, Any]:
    """Return image, environment and resources of a task's container, as the pipeline spec has them."""
    resources = _resources(_resource_options(options, node_id))
    variables = {IMAGE_VARIABLE: options.image, **options.environment}
    return {
        "image": options.image,
        "env": [{"name": name, "value": value} for name, value in sorted(variables.items())],
        **({"resources": resources} if resources else {}),
    }


def task_settings(options: KubeflowOptions) -> dict[str, Any]:
    """Return what a task that runs a container has beside its inputs: never cached, since the plan decides; retries."""
    settings: dict[str, Any] = {"cachingOptions": {"enableCache": False}}
    if options.max_retries:
        settings["retryPolicy"] = {
            "maxRetryCount": options.max_retries,
            "backoffDuration": f"{options.retry_backoff_seconds}s",
            "backoffFactor": 2,
            "backoffMaxDuration": f"{_RETRY_SECONDS}s",
        }
    return settings


def platform_spec(options: KubeflowOptions, executors: dict[str, str]) -> dict[str, Any]:
    """Return KFP's kubernetes platform spec.

    Args:
        options: What the config says.
        executors: Task ids by the labels of their executors.
    """
    configs = {label: _executor_config(options, node_id) for label, node_id in executors.items()}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": configs}}}}


def _resource_options(options: KubeflowOptions, node_id: str) -> ResourceOptions:
    return options.nodes.get(node_id, options.resources)


def _resources(options: ResourceOptions) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if options.cpu:
        resources |= {"resourceCpuRequest": options.cpu, "resourceCpuLimit": options.cpu}
    if options.memory:
        resources |= {"resourceMemoryRequest": options.memory, "resourceMemoryLimit": options.memory}
    if options.accelerator:
        count = str(options.accelerator_count)
        resources["accelerator"] = {"resourceType": options.accelerator, "resourceCount": count}
    return resources


def _executor_config(options: KubeflowOptions, node_id: str) -> dict[str, Any]:
    resources = _resource_options(options, node_id)
    config: dict[str, Any] = {
        "nodeSelector": {"labels": resources.node_selector} if resources.node_selector else None,
        "tolerations": [_toleration(toleration) for toleration in resources.tolerations],
        "secretAsEnv": [_secret(name, options) for name in sorted(options.secrets)],
        "pvcMount": [{"constant": volume.claim, "mountPath": volume.mount} for volume in _given(options.volume)],
        "imagePullSecret": [{"secretName": name} for name in _given(options.image_pull_secret)],
    }
    return {key: value for key, value in config.items() if value}


def _toleration(toleration: Toleration) -> dict[str, str]:
    rule = {"operator": "Exists"} if toleration.value is None else {"operator": "Equal", "value": toleration.value}
    return {"key": toleration.key, **rule, **({"effect": toleration.effect} if toleration.effect else {})}


def _secret(name: str, options: KubeflowOptions) -> dict[str, Any]:
    reference = options.secrets[name]
    return {"secretName": reference.secret, "keyToEnv": [{"secretKey": reference.key, "envVar": name}]}


def _given(value: Any) -> Iterable[Any]:
    return [value] if value else []
