"""The arguments that Beam gets, from what the config says of it. Which nodes use Beam at all is not here."""

from collections.abc import Callable

from pipeline.flink import FLINK_LINE, job_server_jar
from schemas.engine import BeamOptions

# Of every runner. Beam's type checks of the graphs that TFX's components build cost a second a node and find nothing.
_COMMON = [
    "--no_pipeline_type_check",
    # Names an image that nothing pulls: without one, TFX packs its own sources for remote workers before every Beam
    # node, which takes seconds and leaves a temporary folder behind each time.
    "--sdk_container_image=in-process",
]
# A worker outlives the stage it was started for by so long: otherwise each stage would load TensorFlow anew.
ENVIRONMENT_CACHE_MILLISECONDS = 60_000
# Beam may break off the stream of a job's states after this long, and so fail a job that runs on: the default is 300 s.
# It waits as long for a job server that is away.
JOB_SECONDS = 4 * 3600


def beam_args(options: BeamOptions) -> list[str]:
    """Return the arguments for the nodes that use Beam: StatisticsGen, Transform and Evaluator, and no other.

    Example:
        >>> beam_args(BeamOptions())[:3]
        ['--runner=FnApiRunner', '--direct_running_mode=in_memory', '--direct_num_workers=1']
    """
    return [*_RUNNERS[options.runner](options), *_COMMON, *options.args]


def _in_memory(options: BeamOptions) -> list[str]:
    # Beam's own default may start a downloaded Prism binary; this runner is in process, and repeatable.
    return ["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1"]


def _multi_processing(options: BeamOptions) -> list[str]:
    workers = f"--direct_num_workers={options.num_workers}"
    return ["--runner=FnApiRunner", "--direct_running_mode=multi_processing", workers]


def _flink(options: BeamOptions) -> list[str]:
    environment = [f"--environment_type={options.environment}"]
    if options.environment_config:
        environment.append(f"--environment_config={options.environment_config}")
    return [
        *_flink_job_server(options),
        f"--parallelism={options.num_workers}",
        *environment,
        f"--environment_cache_millis={ENVIRONMENT_CACHE_MILLISECONDS}",
        f"--job_server_timeout={JOB_SECONDS}",
    ]


def _flink_job_server(options: BeamOptions) -> list[str]:
    """Return how jobs get to the cluster: by a server that runs beside it, or by one of our own for each node."""
    if options.job_endpoint:
        return ["--runner=PortableRunner", f"--job_endpoint={options.job_endpoint}"]
    return [
        "--runner=FlinkRunner",
        f"--flink_master={options.flink_master}",
        f"--flink_version={FLINK_LINE}",
        f"--flink_job_server_jar={job_server_jar(options)}",
    ]


_RUNNERS: dict[str, Callable[[BeamOptions], list[str]]] = {
    "in_memory": _in_memory,
    "multi_processing": _multi_processing,
    "flink": _flink,
}
