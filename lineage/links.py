"""What the events of ML Metadata say, as plain tuples: which execution read or wrote which artifact, and as what.

Only the channels that lineage speaks of. Others, such as the condition that a node ran under, are most of the events.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_metadata.proto import metadata_store_pb2

from schemas import provenance

_Event = metadata_store_pb2.Event
_INPUTS = frozenset({_Event.INPUT, _Event.INTERNAL_INPUT, _Event.DECLARED_INPUT})
_OUTPUTS = frozenset({_Event.OUTPUT, _Event.INTERNAL_OUTPUT, _Event.DECLARED_OUTPUT})
_INPUT_KEYS = frozenset(
    {
        provenance.EXAMPLES_KEY,
        provenance.REPLAY_KEY,
        provenance.TRANSFORM_GRAPH_KEY,
        provenance.SCHEMA_KEY,
        provenance.BASE_MODEL_KEY,
        provenance.MODEL_KEY,
    }
)
_OUTPUT_KEYS = frozenset(
    {
        provenance.MODEL_KEY,
        provenance.PUSHED_MODEL_KEY,
        provenance.GATE_REPORT_KEY,
        provenance.BLESSING_KEY,
    }
)


class Link(NamedTuple):
    """One artifact in one channel of an execution; sorted, the artifacts of a channel are in their order."""

    execution_id: int
    is_output: bool
    key: str
    position: int
    artifact_id: int


def read_links(events: Iterable[Any]) -> list[Link]:
    """Return the links of events; one event has several where an artifact came through more than one channel."""
    links = []
    for event in events:
        is_output = event.type in _OUTPUTS
        if not is_output and event.type not in _INPUTS:
            continue
        keys, steps = _OUTPUT_KEYS if is_output else _INPUT_KEYS, event.path.steps
        # TFX writes a path as key, index, key, index, ….
        for step in range(0, len(steps) - 1, 2):
            if (key := steps[step].key) in keys:
                links.append(Link(event.execution_id, is_output, key, steps[step + 1].index, event.artifact_id))
    return links
