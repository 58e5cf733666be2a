"""What a config says about Kubeflow Pipelines: where the API is, what tasks run in, and what each may use."""

import re

from pydantic import Field, field_validator

from schemas.base import Record

FROM_ENVIRONMENT = "env:"
# A task's own image, by name, which it can only be told.
IMAGE_VARIABLE = "PERENNIAL_IMAGE"
# Kubernetes quantities: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_ENVIRONMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class Toleration(Record):
    """A taint of nodes that a task may run on all the same, in Kubernetes' words; without a `value`, any value."""

    key: str
    value: str | None = None
    effect: str | None = Field(default=None, pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")


class ResourceOptions(Record):
    """What a task's pod gets, and on which nodes.

    Attributes:
        cpu: Kubernetes quantity, e.g. `2` or `500m`; requested, and the limit. None: the cluster's default.
        memory: Kubernetes quantity, e.g. `4Gi`; requested, and the limit.
        accelerator: Resource name of an accelerator, e.g. `nvidia.com/gpu`.
        accelerator_count: How many of it.
        node_selector: Labels that the node must have, so that training and serving stay apart.
        tolerations: Taints that do not keep the task away.
    """

    cpu: str | None = Field(default=None, pattern=_QUANTITY)
    memory: str | None = Field(default=None, pattern=_QUANTITY)
    accelerator: str | None = None
    accelerator_count: int = Field(default=1, ge=1)
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class SecretReference(Record):
    """A key of a Kubernetes secret; the value itself never leaves the cluster."""

    secret: str
    key: str


class VolumeOptions(Record):
    """The volume that all tasks, the controller and serving share: spans, served versions, run folders, checkpoints.

    Attributes:
        claim: Name of a PersistentVolumeClaim, ReadWriteMany where pods run on several nodes.
        mount: Where it is mounted; the pipeline's root there is `MOUNT/NAME`.
    """

    claim: str
    mount: str = Field(default="/perennial", pattern=r"^/[^.]")


class KubeflowOptions(Record):
    """How runs reach Kubeflow Pipelines and what they run in.

    Attributes:
        host: URL of the KFP API; empty: what the client finds by itself, inside a cluster or by its own settings.
        namespace: Namespace of the runs.
        experiment: Experiment that the runs are listed under; empty: the pipeline's name.
        token: `env:NAME` of the environment variable with a bearer token; empty: the client's own ways.
        service_account: Service account of the pods; empty: KFP's default.
        image: Image of every container task and of the scheduled controller.
        image_pull_secret: Secret to pull it with.
        pipeline_root: Where KFP keeps artifacts, e.g. `minio://mlpipeline/v2/artifacts`; empty: the cluster's default.
        volume: The shared volume; None: every path of the config is the same in the pods, as in a local run.
        secrets: Environment variables of the pods that come from secrets, by name.
        environment: Environment variables of the pods that are no secret.
        resources: What every task gets.
        nodes: What single nodes get instead, by node id, e.g. `Trainer`.
        max_retries: How often KFP tries a failed task again before the run fails.
        retry_backoff_seconds: Wait before the first of them; doubled each time.
        poll_seconds: How often a followed run is looked at.
    """

    host: str = Field(default="", pattern=r"^(https?://.+)?$")
    namespace: str = "kubeflow"
    experiment: str = ""
    token: str = ""
    service_account: str = ""
    image: str = "perennial:0.1.0"
    image_pull_secret: str = ""
    pipeline_root: str = ""
    volume: VolumeOptions | None = None
    secrets: dict[str, SecretReference] = {}
    environment: dict[str, str] = {}
    resources: ResourceOptions = ResourceOptions()
    nodes: dict[str, ResourceOptions] = {}
    max_retries: int = Field(default=2, ge=0)
    retry_backoff_seconds: int = Field(default=30, ge=0)
    poll_seconds: float = Field(default=5.0, gt=0)

    @field_validator("token")
    @classmethod
    def _token_is_a_reference(cls, token: str) -> str:
        if token and not token.startswith(FROM_ENVIRONMENT):
            raise ValueError("a token in a config would be written into every run's record. Use env:NAME")
        return token

    @field_validator("secrets", "environment")
    @classmethod
    def _names_are_variables(cls, variables: dict[str, object]) -> dict[str, object]:
        if wrong := sorted(name for name in variables if not _ENVIRONMENT_NAME.match(name)):
            raise ValueError(f"expected names of environment variables, e.g. LEDGER_URL; received {wrong}")
        return variables
