"""Run a compiled DAG on LocalDagRunner or BeamDagRunner, say which node is running, and name the one that failed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import StandardOptions
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from core.errors import NodeError, PipelineError
from pipeline.config import RunnerName

OnNode = Callable[[str], None]


def compile_pipeline(pipeline: Pipeline, run_id: str) -> Any:
    """Return TFX's intermediate representation of `pipeline`, with our run id in it instead of the runner's clock."""
    representation = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        representation, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return representation


def run_pipeline(pipeline: Pipeline, run_id: str, *, span: int, runner: RunnerName, on_node: OnNode) -> None:
    """Run the DAG to its end or to its first failure.

    Args:
        pipeline: The DAG.
        run_id: Name of its ML Metadata pipeline-run context.
        span: Span the run is for; named in errors.
        runner: Which of TFX's runners.
        on_node: Called with a node's id when its executor starts; importers have none.

    Raises:
        PipelineError: of the class that the node raised, or NodeError; node and span are named in its text.
    """
    representation = compile_pipeline(pipeline, run_id)
    with _observed_launches(on_node) as failures, _in_process_beam():
        try:
            (LocalDagRunner() if runner == "local" else BeamDagRunner()).run_with_ir(representation)
        except Exception as error:
            failure = failures[0] if failures else _Failure("DAG", error)
            raise _named(failure, span) from failure.error


@dataclass(frozen=True)
class _Failure:
    node_id: str
    error: Exception


def _named(failure: _Failure, span: int) -> PipelineError:
    where = f"Node {failure.node_id!r} failed on span {span}."
    if isinstance(failure.error, PipelineError):
        return type(failure.error)(f"{where} {failure.error}")
    return NodeError(f"{where} {type(failure.error).__name__}: {failure.error}")


@contextmanager
def _observed_launches(on_node: OnNode) -> Iterator[list[_Failure]]:
    """Report each node whose executor starts, and keep the exception of the one that fails.

    Neither runner has a hook, but both launch every node through this one class of TFX. Beam would hand on an
    exception's text only, without its type. A node that its condition skips is launched too, but not executed.
    """
    failures: list[_Failure] = []
    launch, run_executor = launcher.Launcher.launch, launcher.Launcher._run_executor

    def observed_launch(self: Any) -> Any:
        try:
            return launch(self)
        except Exception as error:
            failures.append(_Failure(self._pipeline_node.node_info.id, error))
            raise

    def observed_executor(self: Any, execution_info: Any) -> Any:
        on_node(self._pipeline_node.node_info.id)
        return run_executor(self, execution_info)

    launcher.Launcher.launch, launcher.Launcher._run_executor = observed_launch, observed_executor
    try:
        yield failures
    finally:
        launcher.Launcher.launch, launcher.Launcher._run_executor = launch, run_executor


@contextmanager
def _in_process_beam() -> Iterator[None]:
    """Pin the runner of BeamDagRunner's own Beam pipeline, which takes no options; the default may download Prism."""
    default = StandardOptions.DEFAULT_RUNNER
    StandardOptions.DEFAULT_RUNNER = "FnApiRunner"
    try:
        yield
    finally:
        StandardOptions.DEFAULT_RUNNER = default
