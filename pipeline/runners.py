"""Run a compiled DAG on LocalDagRunner or BeamDagRunner, go on where a killed attempt stopped, and say what happens."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import StandardOptions
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import execution_publish_utils, launcher, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib

from core.errors import LeaseLostError, PipelineError, StoppedError
from pipeline.config import RunnerName
from pipeline.cycle import NodeObserver
from pipeline.failures import failure_of

# Below the folder of a node: what its executors write beside their outputs.
_SYSTEM_FOLDERS = (".system/executor_execution", ".system/stateful_working_dir")


def compile_pipeline(pipeline: Pipeline, run_id: str) -> Any:
    """Return TFX's intermediate representation of `pipeline`, with our run id in it instead of the runner's clock."""
    representation = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        representation, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return representation


def run_pipeline(pipeline: Pipeline, run_id: str, *, span: int, runner: RunnerName, observer: NodeObserver) -> None:
    """Run the DAG to its end or to its first failure; what an earlier attempt at the run has finished is left out.

    Args:
        pipeline: The DAG.
        run_id: Name of its ML Metadata pipeline-run context.
        span: Span the run is for; named in errors.
        runner: Which of TFX's runners.
        observer: Told of every node.

    Raises:
        PipelineError: of the class that the node raised, or NodeError; node and span are named in its text.
        UnavailableError: a node failed of something that may pass, such as a full disk.
    """
    representation = compile_pipeline(pipeline, run_id)
    with _observed_launches(observer) as failures, _in_process_beam():
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
    if isinstance(failure.error, LeaseLostError | StoppedError):
        return failure.error
    ours = failure_of(failure.error)
    return type(ours)(f"Node {failure.node_id!r} failed on span {span}. {ours}")


@contextmanager
def _observed_launches(observer: NodeObserver) -> Iterator[list[_Failure]]:
    """Tell `observer` of each node, skip what is finished, and keep the exception of the node that fails.

    Neither runner has a hook, but both launch every node through this one class of TFX. Beam would hand on an
    exception's text only, without its type. A node that its condition skips is launched too, but not executed.
    """
    failures: list[_Failure] = []

    def observed_launch(self: Any) -> Any:
        try:
            return None if _is_finished(self) else launch(self)
        except Exception as error:
            failures.append(_Failure(self._pipeline_node.node_info.id, error))
            raise

    def observed_executor(self: Any, execution_info: Any) -> Any:
        observer.node_started(self._pipeline_node.node_info.id)
        return run_executor(self, execution_info)

    def fenced_publish(self: Any, *arguments: Any) -> None:
        # A worker that was taken for dead and wakes up must not publish beside the one that took over.
        with observer.fenced():
            publish(self, *arguments)
        observer.node_finished(self._pipeline_node.node_info.id)

    launch, run_executor, publish = _seams("launch", "_run_executor", "_publish_successful_execution")
    replaced: dict[str, Callable[..., Any]] = {
        "launch": observed_launch,
        "_run_executor": observed_executor,
        "_publish_successful_execution": fenced_publish,
        "_register_or_reuse_execution": _register_execution,
    }
    originals = dict(zip(replaced, _seams(*replaced), strict=True))
    try:
        _replace(replaced)
        yield failures
    finally:
        _replace(originals)


def _seams(*names: str) -> list[Callable[..., Any]]:
    return [getattr(launcher.Launcher, name) for name in names]


def _replace(methods: dict[str, Callable[..., Any]]) -> None:
    for name, method in methods.items():
        setattr(launcher.Launcher, name, method)


def _is_finished(node: Any) -> bool:
    """Tell whether an earlier attempt finished the node; one that died in it is marked as failed, its files removed."""
    with node._mlmd_connection as handle:
        contexts = context_lib.prepare_contexts(metadata_handle=handle, node_contexts=node._pipeline_node.contexts)
        executions = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
        if any(execution_lib.is_execution_successful(execution) for execution in executions):
            return True
        for execution in executions:
            if execution_lib.is_execution_active(execution):
                execution_publish_utils.publish_failed_execution(
                    metadata_handle=handle, contexts=contexts, execution_id=execution.id
                )
            _remove_outputs(Path(node._pipeline_runtime_spec.pipeline_root.field_value.string_value), node, execution)
    return False


def _remove_outputs(root: Path, node: Any, execution: Any) -> None:
    """Remove what a dead attempt wrote: TFX puts it into `NODE/KEY/EXECUTION`, and nothing names it."""
    folder = root / node._pipeline_node.node_info.id
    outputs = [*folder.glob(f"*/{execution.id}"), *(folder / name / str(execution.id) for name in _SYSTEM_FOLDERS)]
    for half_written in outputs:
        shutil.rmtree(half_written, ignore_errors=True)


def _register_execution(
    self: Any, metadata_handle: Any, contexts: Any, input_artifacts: Any = None, exec_properties: Any = None
) -> Any:
    """Register an execution of its own for every attempt, so that no two attempts write into the same folder.

    TFX would go on with the execution of the attempt before, and its half-written outputs.
    """
    return launcher._register_execution(
        metadata_handle=metadata_handle,
        execution_type=self._pipeline_node.node_info.type,
        contexts=contexts,
        input_artifacts=input_artifacts,
        exec_properties=exec_properties,
    )


@contextmanager
def _in_process_beam() -> Iterator[None]:
    """Pin the runner of BeamDagRunner's own Beam pipeline, which takes no options; the default may download Prism."""
    default = StandardOptions.DEFAULT_RUNNER
    StandardOptions.DEFAULT_RUNNER = "FnApiRunner"
    try:
        yield
    finally:
        StandardOptions.DEFAULT_RUNNER = default
