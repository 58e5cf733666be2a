"""Which DAG a runner's name stands for."""

from core.clock import Clock
from pipeline.config import Config, RunnerName
from pipeline.cycle import Dag
from pipeline.tfx_dag import TfxDag


def make_dag(config: Config, runner: RunnerName | None = None, clock: Clock | None = None) -> Dag:
    """Return what runs plans: TFX in this process, a cluster, or this machine as a cluster would.

    Args:
        config: The pipeline's config.
        runner: None: the config's.
        clock: Where the time comes from; None: the machine's.

    Raises:
        ConfigError: nothing says where Kubeflow Pipelines is, or its token is missing.
    """
    runner = runner or config.runner
    if runner in ("local", "beam"):
        return TfxDag(config, runner)
    from pipeline.kubeflow.dag import KubeflowDag

    config = config.model_copy(update={"runner": runner})
    if runner == "kubeflow":
        from pipeline.kubeflow.kfp_cluster import KfpCluster

        return KubeflowDag(config, KfpCluster(config.kubeflow, config.name, clock=clock), clock)
    from pipeline.kubeflow.local_cluster import LocalCluster

    # No volume is mounted on this machine: every path is the config's own.
    config = config.model_copy(update={"kubeflow": config.kubeflow.model_copy(update={"volume": None})})
    return KubeflowDag(config, LocalCluster(config), clock)
