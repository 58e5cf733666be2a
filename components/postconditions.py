"""What must hold of the output of a node that reads examples: a Beam runner can report success with data lost.

What a node does with its examples is not here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError
from schemas.provenance import EXAMPLES_COUNTS

# How Beam's file sinks name the folders that they rename files out of when all went well.
BEAM_TEMPORARY = "beam-temp-*"


def declared_counts(examples: Any) -> dict[str, int]:
    """Return how many examples each split of an Examples artifact has, as ExampleGen counted them by the manifests.

    Raises:
        DataError: a split is empty, or nobody counted.
    """
    text = examples.get_string_custom_property(EXAMPLES_COUNTS)
    counts: dict[str, int] = json.loads(text) if text else {}
    if not counts or not all(counts.values()):
        raise DataError(
            f"Examples at {examples.uri!r} have an empty split. Expected examples in every split; received "
            f"{EXAMPLES_COUNTS}={counts!r}. Ingest the span again, with an eval_fraction between 0 and 1."
        )
    return counts


def require_all_examples(examples: Any, received: Mapping[str, int], *, by: str) -> None:
    """Refuse what a node made if it did not see every example.

    Args:
        examples: The Examples artifact that the node read.
        received: How many examples the node's output accounts for, by split; splits that it did not read are absent.
        by: What made the output, for the message, such as `StatisticsGen (beam)`.

    Raises:
        DataError: a count differs from the artifact's, or a split that was read is empty.
    """
    expected = {split: count for split, count in declared_counts(examples).items() if split in received}
    if dict(received) != expected or not expected:
        raise DataError(
            f"{by} lost or doubled examples of {examples.uri!r}. Expected {expected or 'a split'}; received "
            f"{dict(received)}. Run again, with `engine: in_process` or another `beam.runner` if it happens again."
        )


def require_no_remains(artifact: Any, *, by: str) -> None:
    """Refuse an output in which Beam left temporary files: some of it was never moved to where it belongs.

    Args:
        artifact: What the node wrote.
        by: What made it, for the message.

    Raises:
        DataError: a temporary file or folder is there.
    """
    remains = sorted(path.name for path in Path(artifact.uri).rglob(BEAM_TEMPORARY))
    if remains:
        raise DataError(
            f"{by} did not finish {artifact.uri!r}. Expected no {BEAM_TEMPORARY} in it; received {len(remains)}, the "
            f"first {remains[0]!r}. Run again, with `engine: in_process` or another `beam.runner` if it happens again."
        )
