"""Which class of `core.errors` a failure belongs to, whoever raised it."""

from core.errors import NodeError, PipelineError, UnavailableError
from core.transience import why_transient


def failure_of(error: Exception) -> PipelineError:
    """Return a failure as one of ours: what may pass is an UnavailableError, what nobody wrapped a NodeError.

    Example:
        >>> failure_of(KeyError("label"))
        NodeError("KeyError: 'label'")
    """
    passing = why_transient(error)
    if passing is not None and not getattr(error, "retryable", False):
        return UnavailableError(
            f"{passing}. Expected room and reach for what a run writes. Nothing is lost: make room or bring it back, "
            "and the run goes on at this node."
        )
    return error if isinstance(error, PipelineError) else NodeError(f"{type(error).__name__}: {error}")
