"""What a failure is taken for, whoever raised it."""

import errno

import pytest

from core.errors import DataError, LeaseHeldError, NodeError, PipelineError, UnavailableError
from pipeline.failures import failure_of


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (KeyError("label"), NodeError, "KeyError: 'label'"),
        (DataError("Span 7 is empty."), DataError, "Span 7 is empty."),
        (LeaseHeldError("Another worker has it."), LeaseHeldError, "Another worker has it."),
        (OSError(errno.ENOSPC, "No space left on device"), UnavailableError, "No space left on device. Expected room"),
        (DataError("write: No space left on device"), UnavailableError, "No space left on device. Expected room"),
    ],
    ids=["foreign", "ours", "passing and ours", "full disk", "full disk in our words"],
)
def test_a_failure_is_one_of_ours(error: Exception, kind: type[PipelineError], text: str) -> None:
    failure = failure_of(error)
    assert type(failure) is kind
    assert str(failure).startswith(text)
    assert (failure is error) == isinstance(error, kind)
