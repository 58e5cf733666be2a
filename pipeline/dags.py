"""Which DAG a runner's name stands for, and in which process it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.clock import Clock
from pipeline.config import Config, RunnerName
from pipeline.cycle import Dag
from pipeline.tfx_dag import TfxDag

if TYPE_CHECKING:
    from pipeline.health import WorkerStatus


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


@contextmanager
def warm_dag(
    config: Config,
    *,
    is_at_once: bool,
    on_change: "Callable[[WorkerStatus | None], None]",
    echo: Callable[[str], None],
) -> Iterator[Dag]:
    """Yield what runs plans of one process that runs many: TFX in a process of its own, which ends with the block.

    In a cluster every task has its process anyway, and `worker.warm` may say no.

    Args:
        config: The pipeline's config.
        is_at_once: Start the process now; else with the first run.
        on_change: Given the process' state whenever it changes.
        echo: Given every line that the process prints.
    """
    here = make_dag(config)
    if not (config.worker.warm and isinstance(here, TfxDag)):
        yield here
        return
    from pipeline.worker import Worker, setup_of
    from pipeline.worker_dag import WorkerDag

    worker = Worker(setup_of(config, here.runner), code_digest=here.code_digest, on_change=on_change, echo=echo)
    try:
        if is_at_once:
            worker.warm()
        yield WorkerDag(here, worker)
    finally:
        worker.close()
