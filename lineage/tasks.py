"""What a task of a cluster asks ML Metadata, and tells it of a failure; for all else TFX has functions."""

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from lineage.runs import ERROR_CLASS, ERROR_TEXT

# Enough for a sentence and its numbers; ML Metadata hands every property on with every answer.
MAX_ERROR_CHARS = 4000
_Artifact = metadata_store_pb2.Artifact
_REMOVED = (_Artifact.MARKED_FOR_DELETION, _Artifact.DELETED)
# What the same call would meet again. Everything else may be a server that restarts, or a lock.
_LASTING = (
    errors.AlreadyExistsError,
    errors.InvalidArgumentError,
    errors.NotFoundError,
    errors.PermissionDeniedError,
    errors.UnimplementedError,
)


def find_artifact(store: MetadataStore, uri: str, type_name: str) -> metadata_store_pb2.Artifact | None:
    """Return the newest artifact of a type at a uri, whose files were not removed; None if there is none."""
    found = (a for a in store.get_artifacts_by_uri(uri) if a.type == type_name and a.state not in _REMOVED)
    return max(found, key=lambda artifact: artifact.id, default=None)


def execution_type(name: str) -> metadata_store_pb2.ExecutionType:
    """Return an execution type to register a node's execution under."""
    return metadata_store_pb2.ExecutionType(name=name)


def fail_execution(store: MetadataStore, execution_id: int, *, error_class: str, text: str) -> None:
    """Mark an execution as failed, and record of what.

    Args:
        store: A store that was opened writable.
        execution_id: The execution.
        error_class: Name of a class of `core.errors`.
        text: The failure's sentence.
    """
    (execution,) = store.get_executions_by_id([execution_id])
    execution.last_known_state = metadata_store_pb2.Execution.FAILED
    execution.custom_properties[ERROR_CLASS].string_value = error_class
    execution.custom_properties[ERROR_TEXT].string_value = text[:MAX_ERROR_CHARS]
    store.put_executions([execution])


def may_pass(error: BaseException) -> bool:
    """Tell whether a call of ML Metadata that raised this is worth repeating."""
    # The constructor of a store raises RuntimeError, its calls raise StatusError.
    return isinstance(error, RuntimeError | errors.StatusError) and not isinstance(error, _LASTING)
