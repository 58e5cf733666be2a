"""What one run of the DAG left in ML Metadata, node by node."""

from collections import defaultdict
from typing import Any

from core.errors import LineageError
from schemas.base import Record

PIPELINE_CONTEXT = "pipeline"
PIPELINE_RUN_CONTEXT = "pipeline_run"
NODE_CONTEXT = "node"
# Custom property of an execution: the node that it is of. Those of older releases, and of tasks in a cluster, lack it.
NODE_ID = "node_id"
# Custom properties of a failed execution: the class of `core.errors` that its node raised, and its text.
ERROR_CLASS = "error_class"
ERROR_TEXT = "error_text"


class OutputArtifact(Record):
    """An artifact that a node wrote or imported: its folder and its properties, ours and TFX's together."""

    uri: str
    properties: dict[str, int | float | str]


class NodeRun(Record):
    """One node's execution.

    Attributes:
        state: ML Metadata's word, e.g. `COMPLETE`, `CACHED`, `FAILED`, or `RUNNING` where its worker died.
        seconds: From registration to publication.
        outputs: First artifact of every output, by key.
    """

    node_id: str
    state: str
    seconds: float
    outputs: dict[str, OutputArtifact]


class NodeFailure(Record):
    """What a node recorded of its own failure.

    Attributes:
        error_class: Name of a class of `core.errors`.
    """

    node_id: str
    error_class: str
    text: str


def node_runs(store: Any, run_id: str) -> dict[str, NodeRun]:
    """Return the executions of a pipeline run by node id; a node that its condition skipped is absent.

    A run may take several attempts, and a killed one leaves an execution that never ended. Of a node's executions the
    complete one counts, otherwise the last.

    Args:
        store: An open `ml_metadata` store.
        run_id: Name of the pipeline run.

    Raises:
        LineageError: the store knows no such run.
    """
    from ml_metadata.proto import metadata_store_pb2

    context = store.get_context_by_type_and_name(PIPELINE_RUN_CONTEXT, run_id)
    if context is None:
        raise LineageError(f"ML Metadata knows no run {run_id!r}. Expected a run of this pipeline. Check the run id.")
    executions = store.get_executions_by_context(context.id)
    outputs = _outputs(store, [execution.id for execution in executions])
    states = metadata_store_pb2.Execution.State
    runs: dict[str, NodeRun] = {}
    for execution in sorted(executions, key=lambda execution: (_is_complete(execution), execution.id)):
        node_id = _node_id(store, execution)
        runs[node_id] = NodeRun(
            node_id=node_id,
            state=states.Name(execution.last_known_state),
            seconds=(execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000,
            outputs=outputs[execution.id],
        )
    return runs


def node_failures(store: Any, run_id: str) -> dict[str, NodeFailure]:
    """Return what the nodes of a run whose last attempt failed recorded of it; empty where nothing was recorded.

    Args:
        store: An open `ml_metadata` store.
        run_id: Name of the pipeline run.
    """
    context = store.get_context_by_type_and_name(PIPELINE_RUN_CONTEXT, run_id)
    executions = [] if context is None else store.get_executions_by_context(context.id)
    newest = {}
    for execution in sorted(executions, key=lambda execution: (_is_complete(execution), execution.id)):
        newest[_node_id(store, execution)] = execution
    return {
        node_id: NodeFailure(
            node_id=node_id,
            error_class=execution.custom_properties[ERROR_CLASS].string_value,
            text=execution.custom_properties[ERROR_TEXT].string_value,
        )
        for node_id, execution in newest.items()
        if ERROR_CLASS in execution.custom_properties and not _is_complete(execution)
    }


def _is_complete(execution: Any) -> bool:
    from ml_metadata.proto import metadata_store_pb2

    states = metadata_store_pb2.Execution
    return execution.last_known_state in (states.COMPLETE, states.CACHED)


def node_id_of(context_name: str) -> str:
    """Return the node that a node context is of: TFX names it `pipeline.node`."""
    return context_name.rpartition(".")[2]


def _node_id(store: Any, execution: Any) -> str:
    if NODE_ID in execution.custom_properties:
        return str(execution.custom_properties[NODE_ID].string_value)
    names = [c.name for c in store.get_contexts_by_execution(execution.id) if c.type == NODE_CONTEXT]
    return node_id_of(names[0]) if names else f"execution-{execution.id}"


def _outputs(store: Any, execution_ids: list[int]) -> dict[int, dict[str, OutputArtifact]]:
    from ml_metadata.proto import metadata_store_pb2

    events = [
        event
        for event in store.get_events_by_execution_ids(execution_ids)
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts_by_id([e.artifact_id for e in events])}
    outputs: dict[int, dict[str, OutputArtifact]] = defaultdict(dict)
    for event in events:
        key = next((step.key for step in event.path.steps if step.HasField("key")), "")
        artifact = artifacts[event.artifact_id]
        outputs[event.execution_id].setdefault(key, OutputArtifact(uri=artifact.uri, properties=_properties(artifact)))
    return outputs


def _properties(artifact: Any) -> dict[str, int | float | str]:
    merged = {**artifact.properties, **artifact.custom_properties}
    found = {}
    for name, value in merged.items():
        kind = value.WhichOneof("value")
        if kind in ("int_value", "double_value", "string_value"):
            found[name] = getattr(value, kind)
    return found
