"""Run a compiled DAG, nodes side by side or on BeamDagRunner, and say what happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from core.errors import LeaseLostError, PipelineError, StoppedError
from pipeline.config import RunnerName
from pipeline.cycle import NodeObserver
from pipeline.failures import failure_of
from pipeline.node_launcher import LaunchedRun, NodeLauncher, RunConnection
from pipeline.side_by_side import run_side_by_side


def compile_pipeline(pipeline: Pipeline, run_id: str) -> Any:
    """Return TFX's intermediate representation of `pipeline`, with our run id in it instead of the runner's clock."""
    representation = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        representation, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return representation


def run_pipeline(
    pipeline: Pipeline, run_id: str, *, span: int, runner: RunnerName, observer: NodeObserver, parallel_nodes: int = 1
) -> None:
    """Run the DAG to its end or to its first failure; what an earlier attempt at the run has finished is left out.

    Args:
        pipeline: The DAG.
        run_id: Name of its ML Metadata pipeline-run context.
        span: Span the run is for; named in errors.
        runner: `local` or `beam`.
        observer: Told of every node, by one thread at a time.
        parallel_nodes: Most nodes that `local` runs side by side; `beam` runs one after another.

    Raises:
        PipelineError: of the class that the first failed node of the DAG raised, or NodeError; node and span are named
            in its text.
        UnavailableError: a node failed of something that may pass, such as a full disk.
    """
    representation = compile_pipeline(pipeline, run_id)
    run = LaunchedRun(RunConnection(pipeline.metadata_connection_config, run_id), observer)
    try:
        if runner == "local":
            _run_local(representation, partial(NodeLauncher, run), parallel_nodes)
        else:
            _run_beam(representation, partial(NodeLauncher, run))
    except Exception as error:
        failed = (entry.pipeline_node.node_info.id for entry in representation.nodes)
        node_id = next((node_id for node_id in failed if node_id in run.failures), "DAG")
        failure = run.failures.get(node_id, error)
        raise _named(node_id, failure, span) from failure
    finally:
        run.connection.close()


def _run_local(representation: Any, make_launcher: Callable[..., NodeLauncher], parallel_nodes: int) -> None:
    """Do what TFX's LocalDagRunner does, which would run one node after another."""
    deployment = runner_utils.extract_local_deployment_config(representation)
    nodes = {entry.pipeline_node.node_info.id: entry.pipeline_node for entry in representation.nodes}

    def launch(node_id: str) -> None:
        make_launcher(
            pipeline_node=nodes[node_id],
            pipeline_info=representation.pipeline_info,
            pipeline_runtime_spec=representation.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
        ).launch()

    upstream = {node_id: frozenset(node.upstream_nodes) for node_id, node in nodes.items()}
    run_side_by_side(upstream, launch, max_parallel=parallel_nodes)


def _run_beam(representation: Any, make_launcher: Callable[..., NodeLauncher]) -> None:
    # Here, as below: Beam takes seconds to import, and who runs `local` needs none of it.
    from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner

    with _launched_by(make_launcher), _in_process_beam():
        BeamDagRunner().run_with_ir(representation)


def _named(node_id: str, error: Exception, span: int) -> PipelineError:
    if isinstance(error, LeaseLostError | StoppedError):
        return error
    ours = failure_of(error)
    return type(ours)(f"Node {node_id!r} failed on span {span}. {ours}")


@contextmanager
def _launched_by(make_launcher: Callable[..., NodeLauncher]) -> Iterator[None]:
    """Let BeamDagRunner launch nodes as we do; it takes the class from TFX's module and from nowhere else."""
    original = launcher.Launcher
    launcher.Launcher = make_launcher
    try:
        yield
    finally:
        launcher.Launcher = original


@contextmanager
def _in_process_beam() -> Iterator[None]:
    """Pin the runner of BeamDagRunner's own Beam pipeline, which takes no options; the default may download Prism."""
    from apache_beam.options.pipeline_options import StandardOptions

    default = StandardOptions.DEFAULT_RUNNER
    StandardOptions.DEFAULT_RUNNER = "FnApiRunner"
    try:
        yield
    finally:
        StandardOptions.DEFAULT_RUNNER = default
