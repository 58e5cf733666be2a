"""Launches one node as TFX does, beside others: what is finished is left out, and who observes is told in turn."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random
from tfx.orchestration import metadata
from tfx.orchestration.portable import execution_publish_utils, launcher
from tfx.orchestration.portable.mlmd import context_lib, execution_lib

from lineage.run_store import RunStore
from lineage.runs import NODE_CONTEXT
from pipeline.cycle import NodeObserver

# Below the folder of a node: what its executors write beside their outputs.
_SYSTEM_FOLDERS = (".system/executor_execution", ".system/stateful_working_dir")
# A server, or a proxy before it, may close what is idle; a node can take hours.
MAX_IDLE_SECONDS = 30.0
# As TFX does it: two who make the tables of an empty database at once may be in each other's way.
_MAX_OPENINGS, _MAX_PAUSE_SECONDS = 10, 1


class RunConnection(metadata.Metadata):
    """The one connection to ML Metadata of all nodes of a run; whoever has entered it has it alone.

    TFX opens a connection for every question, which takes longer than the question.

    Args:
        config: How ML Metadata is reached.
        run_id: Name of the pipeline run.
        max_idle_seconds: A connection that nobody used for longer is opened anew.
    """

    def __init__(self, config: Any, run_id: str, *, max_idle_seconds: float = MAX_IDLE_SECONDS) -> None:
        super().__init__(config)
        self._run_id = run_id
        self._max_idle_seconds = max_idle_seconds
        self._lock = threading.RLock()
        self._left_at = 0.0

    def __enter__(self) -> "RunConnection":
        self._lock.acquire()
        try:
            if self._users == 0 and time.monotonic() - self._left_at > self._max_idle_seconds:
                self._store = None
            if self._store is None:
                self._store = self._opened()
        except BaseException:
            self._lock.release()
            raise
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        self._left_at = time.monotonic()
        self._lock.release()

    def close(self) -> None:
        """Close the connection; entering it opens it again."""
        with self._lock:
            self._store = None

    def _opened(self) -> RunStore:
        for attempt in Retrying(
            retry=retry_if_exception_type(RuntimeError),
            stop=stop_after_attempt(_MAX_OPENINGS),
            wait=wait_random(0, _MAX_PAUSE_SECONDS),
            reraise=True,
        ):
            with attempt:
                return RunStore(self._connection_config, self._run_id)
        raise RuntimeError("tenacity ended without a result or an exception")


@dataclass(frozen=True)
class LaunchedRun:
    """What the nodes of a run have in common.

    Attributes:
        connection: Their connection to ML Metadata.
        observer: Told of every node, by one thread at a time.
        failures: What a node raised, by its id.
    """

    connection: RunConnection
    observer: NodeObserver
    failures: dict[str, Exception] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def observed(self) -> Iterator[NodeObserver]:
        """Yield the observer to one thread at a time: its ledger has one writer, and its listeners expect one."""
        with self._turn:
            yield self.observer


class NodeLauncher(launcher.Launcher):
    """TFX's launcher of a node, which tells the observer, fences what is published, and resumes.

    Neither of TFX's runners has a hook, but both launch every node through this one class. A node that its condition
    skips is launched too, but not executed. TFX's own `launch` would start a gRPC server beside every executor, for
    executors in other processes.

    Args:
        run: What it has in common with the others.
        arguments: TFX's own.
    """

    def __init__(self, run: LaunchedRun, **arguments: Any) -> None:
        super().__init__(**(arguments | {"mlmd_connection": run.connection}))
        self._run = run
        self._node_id = str(self._pipeline_node.node_info.id)

    def launch(self) -> None:
        """Run the node, unless an earlier attempt has finished it or its condition skips it."""
        try:
            if not self._is_finished():
                self._launch()
        except Exception as error:
            # Beam would hand on its text only, without its type.
            self._run.failures[self._node_id] = error
            raise

    def _launch(self) -> None:
        if self._system_node_handler is not None:
            self._system_node_handler.run(
                self._mlmd_connection, self._pipeline_node, self._pipeline_info, self._pipeline_runtime_spec
            )
            return
        prepared = self._prepare_execution()
        if not prepared.is_execution_needed:
            return
        info = prepared.execution_info
        try:
            with self._run.observed() as observer:
                observer.node_started(self._node_id)
            output = self._run_executor(info)
        except Exception as error:
            said = getattr(error, "executor_output", None)
            self._publish_failed_execution(info.execution_id, prepared.contexts, said)
            raise
        finally:
            self._clean_up_stateless_execution_info(info)
        self._clean_up_stateful_execution_info(info)
        with self._run.observed() as observer:
            # A worker that was taken for dead and wakes up must not publish beside the one that took over.
            with observer.fenced():
                self._publish_successful_execution(info.execution_id, prepared.contexts, info.output_dict, output)
            observer.node_finished(self._node_id)

    def _is_finished(self) -> bool:
        """Tell whether an earlier attempt finished it; one that died in it is marked as failed, its files removed."""
        with self._mlmd_connection as handle:
            contexts = context_lib.prepare_contexts(metadata_handle=handle, node_contexts=self._pipeline_node.contexts)
            executions = handle.store.get_executions_by_context(_context_of_node(handle.store, contexts))
            if any(execution_lib.is_execution_successful(execution) for execution in executions):
                return True
            for execution in executions:
                if execution_lib.is_execution_active(execution):
                    execution_publish_utils.publish_failed_execution(
                        metadata_handle=handle, contexts=contexts, execution_id=execution.id
                    )
                self._remove_outputs(execution)
        return False

    def _remove_outputs(self, execution: Any) -> None:
        """Remove what a dead attempt wrote: TFX puts it into `NODE/KEY/EXECUTION`, and nothing names it."""
        folder = Path(self._pipeline_runtime_spec.pipeline_root.field_value.string_value) / self._node_id
        outputs = [*folder.glob(f"*/{execution.id}"), *(folder / name / str(execution.id) for name in _SYSTEM_FOLDERS)]
        for half_written in outputs:
            shutil.rmtree(half_written, ignore_errors=True)

    def _register_or_reuse_execution(
        self, metadata_handle: Any, contexts: Any, input_artifacts: Any = None, exec_properties: Any = None
    ) -> Any:
        """Register an execution of its own for every attempt, so that no two attempts write into the same folder.

        TFX would go on with the execution of the attempt before, and its half-written outputs.
        """
        return execution_publish_utils.register_execution(
            metadata_handle=metadata_handle,
            execution_type=self._pipeline_node.node_info.type,
            contexts=contexts,
            input_artifacts=input_artifacts,
            exec_properties=exec_properties,
        )


def _context_of_node(store: RunStore, contexts: list[Any]) -> int:
    """Return the id of the node's context, among all that the node is in."""
    type_id = store.get_context_type(NODE_CONTEXT).id
    return int(next(context.id for context in contexts if context.type_id == type_id))
