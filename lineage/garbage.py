"""What ML Metadata needs to know of files that are removed and of runs that are given up; which, `pipeline` decides.

TFX makes artifacts and executions, and nothing but this ends them; a failed task says why in `lineage.tasks`.
"""

from collections.abc import Iterable

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from lineage.runs import PIPELINE_CONTEXT, PIPELINE_RUN_CONTEXT
from schemas.base import Record

# Artifacts per write: bounds a transaction, which holds SQLite's only write lock.
_BATCH_SIZE = 500


class RunContents(Record):
    """What executions of some runs read or wrote.

    Attributes:
        uris: Folders of their artifacts, inputs and imported ones included.
        execution_ids: Numbers of the executions, which TFX names folders by.
    """

    uris: frozenset[str]
    execution_ids: frozenset[int]


def run_contents(store: MetadataStore, run_ids: Iterable[str]) -> RunContents:
    """Return what runs are made of; a run that never got as far as an execution has nothing."""
    uris: set[str] = set()
    execution_ids: set[int] = set()
    for run_id in run_ids:
        context = store.get_context_by_type_and_name(PIPELINE_RUN_CONTEXT, run_id)
        if context is not None:
            uris.update(artifact.uri for artifact in store.get_artifacts_by_context(context.id))
            execution_ids.update(execution.id for execution in store.get_executions_by_context(context.id))
    return RunContents(uris=frozenset(uris), execution_ids=frozenset(execution_ids))


def end_executions(store: MetadataStore, run_id: str) -> int:
    """Mark as failed what a dead worker left running in a run that nobody goes on with; return how many there were.

    Args:
        store: A store that was opened writable.
        run_id: Name of the run.
    """
    context = store.get_context_by_type_and_name(PIPELINE_RUN_CONTEXT, run_id)
    states = metadata_store_pb2.Execution
    executions = [] if context is None else store.get_executions_by_context(context.id)
    unfinished = [e for e in executions if e.last_known_state in (states.NEW, states.RUNNING)]
    for execution in unfinished:
        execution.last_known_state = states.FAILED
    if unfinished:
        store.put_executions(unfinished)
    return len(unfinished)


def present_artifacts(store: MetadataStore, pipeline: str | None = None) -> dict[str, str]:
    """Return the type of every artifact that is not marked as deleted, by uri.

    Args:
        store: An open store.
        pipeline: The one whose artifacts are wanted, since several may share a database; None: all.
    """
    deleted = metadata_store_pb2.Artifact.DELETED
    if pipeline is None:
        artifacts = store.get_artifacts()
    else:
        context = store.get_context_by_type_and_name(PIPELINE_CONTEXT, pipeline)
        artifacts = [] if context is None else store.get_artifacts_by_context(context.id)
    return {artifact.uri: artifact.type for artifact in artifacts if artifact.state != deleted}


def mark_deleted(store: MetadataStore, uris: frozenset[str]) -> None:
    """Mark every artifact of these folders as deleted, so that nothing later reads a ghost.

    Its properties stay: lineage goes on answering from them.

    Args:
        store: A store that was opened writable.
        uris: Folders of artifacts.
    """
    doomed = [artifact for artifact in store.get_artifacts() if artifact.uri in uris]
    for first in range(0, len(doomed), _BATCH_SIZE):
        batch = doomed[first : first + _BATCH_SIZE]
        for artifact in batch:
            artifact.state = metadata_store_pb2.Artifact.DELETED
        store.put_artifacts(batch)
