"""Records the node that a task runs in our ML Metadata, as TFX's local launcher records it.

Lineage then answers the same wherever a run ran. Every call may be repeated, since KFP starts tasks again: a new
attempt has an execution of its own, and outputs at the same URI stay the same artifacts.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from tenacity import RetryError, Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib

from core.errors import PipelineError, UnavailableError
from lineage.runs import NODE_CONTEXT, PIPELINE_CONTEXT, PIPELINE_RUN_CONTEXT
from lineage.store import connection_config, shown_url
from lineage.tasks import execution_type, fail_execution, find_artifact, may_pass
from schemas.base import Record

# Two and a half minutes in all: a database that restarts is back by then, and a Trainer's hours are worth that wait.
MAX_ATTEMPTS = 12
_LONGEST_WAIT_SECONDS = 20
# What KFP adds to an artifact for itself.
_KFP_PROPERTIES = frozenset({"display_name", "store_session_info", "_kfp_workspace"})
Channels = dict[str, list[Any]]
_Answer = TypeVar("_Answer")


class NodeName(Record):
    """Which node of which run a task is.

    Attributes:
        node_type: Name of its execution type, as TFX's compiler gives it.
    """

    pipeline: str
    run_id: str
    node_id: str
    node_type: str


class NodePublication:
    """One attempt at a node, in ML Metadata.

    Args:
        url: The store's URL.
        node: Which node of which run.
        sleep: How to wait before a call is repeated.
    """

    def __init__(self, url: str, node: NodeName, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url
        self._node = node
        self._sleep = sleep
        self._metadata = Metadata(connection_config(url))
        self._execution_id: int | None = None
        self._is_away = False

    def begin(self, inputs: Channels, exec_properties: dict[str, Any]) -> tuple[int, Channels]:
        """Register this attempt as running, and end what a killed one before it left.

        Args:
            inputs: Artifacts by channel, as KFP describes them.
            exec_properties: The node's parameters.

        Returns:
            The execution's number, and the inputs as ML Metadata knows them, with numbers and typed properties. One
            that it does not know is registered, as an Importer would.

        Raises:
            UnavailableError: ML Metadata cannot be reached.
        """
        recorded: Channels = {}

        def register(handle: Any) -> int:
            contexts = self._contexts(handle)
            self._end_killed_attempts(handle, contexts)
            recorded.update({key: [_known(handle, a) for a in artifacts] for key, artifacts in inputs.items()})
            execution = execution_publish_utils.register_execution(
                metadata_handle=handle,
                execution_type=execution_type(self._node.node_type),
                contexts=contexts,
                input_artifacts=recorded,
                exec_properties=exec_properties,
            )
            return int(execution.id)

        self._execution_id = self._call(register)
        return self._execution_id, recorded

    def complete(self, outputs: Channels, executor_output: Any) -> None:
        """Publish the outputs and mark the attempt as complete.

        Args:
            outputs: Artifacts by channel, with their URIs.
            executor_output: What the executor said of them, with URIs too.

        Raises:
            UnavailableError: ML Metadata cannot be reached.
        """

        def publish(handle: Any) -> None:
            (execution,) = handle.store.get_executions_by_id([self._execution_id])
            if execution_lib.is_execution_successful(execution):
                return  # the answer to an earlier try was lost
            for artifact in (artifact for artifacts in outputs.values() for artifact in artifacts):
                if (known := find_artifact(handle.store, artifact.uri, artifact.type_name)) is not None:
                    artifact.id = known.id
            execution_publish_utils.publish_succeeded_execution(
                metadata_handle=handle,
                execution_id=self._execution_id,
                contexts=self._contexts(handle),
                output_artifacts=outputs,
                executor_output=executor_output,
            )

        self._call(publish)

    def fail(self, error: PipelineError) -> None:
        """Mark the attempt as failed, and record of what; where ML Metadata is away nothing can be recorded."""
        if self._is_away:
            return
        if self._execution_id is None:
            self.begin({}, {})
        execution_id = self._execution_id

        def publish(handle: Any) -> None:
            fail_execution(handle.store, int(execution_id or 0), error_class=type(error).__name__, text=str(error))

        with suppress(UnavailableError):
            self._call(publish)

    def _call(self, function: Callable[[Any], _Answer]) -> _Answer:
        """Call with an open store, again and again while its failure may pass."""
        retrying = Retrying(
            retry=retry_if_exception(may_pass),
            wait=wait_exponential(max=_LONGEST_WAIT_SECONDS),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            sleep=self._sleep,
        )

        def once() -> _Answer:
            with self._metadata as handle:
                return function(handle)

        try:
            return retrying(once)
        except RetryError as given_up:
            self._is_away = True
            error = given_up.last_attempt.exception()
            raise UnavailableError(
                f"ML Metadata at {shown_url(self._url)!r} could not be written in {MAX_ATTEMPTS} attempts: "
                f"{str(error)[:200]}. Expected a database that this task reaches. Bring it back, or correct `metadata` "
                "in the config; the run goes on at this node."
            ) from error

    def _contexts(self, handle: Any) -> list[Any]:
        node = self._node
        pipeline = context_lib.register_context_if_not_exists(handle, PIPELINE_CONTEXT, node.pipeline)
        run = context_lib.register_context_if_not_exists(
            handle, PIPELINE_RUN_CONTEXT, node.run_id, parent_contexts=[pipeline]
        )
        of_node = context_lib.register_context_if_not_exists(handle, NODE_CONTEXT, f"{node.pipeline}.{node.node_id}")
        return [pipeline, run, of_node]

    def _end_killed_attempts(self, handle: Any, contexts: list[Any]) -> None:
        for execution in execution_lib.get_executions_associated_with_all_contexts(handle, contexts):
            if execution_lib.is_execution_active(execution):
                execution_publish_utils.publish_failed_execution(
                    metadata_handle=handle, contexts=contexts, execution_id=execution.id
                )


def _known(handle: Any, artifact: Any) -> Any:
    """Return an artifact as ML Metadata knows it, or as it is to be registered."""
    known = find_artifact(handle.store, artifact.uri, artifact.type_name)
    if known is not None:
        artifact.set_mlmd_artifact(known)
        return artifact
    handle.publish_artifacts([plain_artifact(artifact)])
    return artifact


def plain_artifact(artifact: Any) -> Any:
    """Return an artifact whose custom properties are numbers and texts again, as all but KFP write them.

    KFP knows JSON only, so that a whole number comes back as a float in a structure.
    """
    properties = artifact.mlmd_artifact.custom_properties
    for name in list(properties):
        if properties[name].WhichOneof("value") != "struct_value":
            continue
        value = artifact.get_json_value_custom_property(name)
        del properties[name]
        if name in _KFP_PROPERTIES:
            continue
        if isinstance(value, float) and value.is_integer():
            artifact.set_int_custom_property(name, value)
        elif isinstance(value, float):
            artifact.set_float_custom_property(name, value)
        elif isinstance(value, str):
            artifact.set_string_custom_property(name, value)
        else:
            artifact.set_json_value_custom_property(name, value)
    return artifact
