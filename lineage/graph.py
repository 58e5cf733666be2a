"""The family tree of models, from artifacts and events of ML Metadata. Questions to it are in `lineage.queries`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from ml_metadata.metadata_store.metadata_store import ListOptions, MetadataStore
from ml_metadata.proto import metadata_store_pb2

from schemas import provenance

_Event = metadata_store_pb2.Event
_INPUTS = frozenset({_Event.INPUT, _Event.INTERNAL_INPUT, _Event.DECLARED_INPUT})
_OUTPUTS = frozenset({_Event.OUTPUT, _Event.INTERNAL_OUTPUT, _Event.DECLARED_OUTPUT})
_REMOVED = frozenset({metadata_store_pb2.Artifact.MARKED_FOR_DELETION, metadata_store_pb2.Artifact.DELETED})
# What a killed or failed attempt leaves. Asked for by name, since there are few of them among all executions; an
# execution without a state was written by something older than states, and counts.
_INCOMPLETE = ListOptions(
    filter_query=" OR ".join(f"last_known_state = {state}" for state in ("NEW", "RUNNING", "FAILED", "CANCELED"))
)


# What a Trainer read that the answers speak of; its events name more, e.g. the condition that it ran under.
_TRAINER_KEYS = frozenset(
    {
        provenance.EXAMPLES_KEY,
        provenance.REPLAY_KEY,
        provenance.TRANSFORM_GRAPH_KEY,
        provenance.SCHEMA_KEY,
        provenance.BASE_MODEL_KEY,
        provenance.MODEL_KEY,
    }
)
# What tells by its events which executions judged a model, pushed it, or filled a replay buffer.
_TELLING_TYPES = (
    provenance.PUSHED_MODEL_TYPE,
    provenance.GATE_REPORT_TYPE,
    provenance.BLESSING_TYPE,
    provenance.REPLAY_BUFFER_TYPE,
)


class SpanKey(NamedTuple):
    """A `SpanRef` as a tuple, in its order: a model's spans are compared by the hundred thousand."""

    span: int
    version: int
    digest: str


@dataclass(frozen=True)
class Artifact:
    """An artifact of ML Metadata.

    Attributes:
        properties: Its custom properties.
        is_removed: Garbage collection removed its files.
    """

    uri: str
    created_at: datetime
    properties: Mapping[str, Any]
    is_removed: bool = False

    def spans(self, name: str = provenance.EXAMPLES_SPANS) -> frozenset[SpanKey] | None:
        """Return the spans that a property lists; None if it is missing or cannot be read."""
        try:
            refs = provenance.decode_spans(self.text(name) or "")
        except ValueError:
            return None
        return frozenset(SpanKey(ref.span, ref.version, ref.digest) for ref in refs)

    def text(self, name: str) -> str | None:
        """Return a text property, or None where there is none."""
        value = self.properties.get(name)
        return value if value and isinstance(value, str) else None


@dataclass(frozen=True)
class Execution:
    """One run of a node: what went in and what came out, by channel key."""

    inputs: Mapping[str, tuple[Artifact, ...]]
    outputs: Mapping[str, tuple[Artifact, ...]]

    def input(self, key: str) -> Artifact | None:
        """Return the first artifact of an input channel, or None."""
        return next(iter(self.inputs.get(key, ())), None)

    def output(self, key: str) -> Artifact | None:
        """Return the first artifact of an output channel, or None."""
        return next(iter(self.outputs.get(key, ())), None)


@dataclass(frozen=True)
class ModelNode:
    """A model and what its Trainer read.

    Attributes:
        training: The Trainer's execution; None for a model that was only ever imported.
        evaluation: The last Gate execution that had it as its candidate.
        version: Version it was pushed as; None if it never was.
        replay_spans: Spans in the replay buffer that its Trainer read; None if that is not known.
    """

    artifact: Artifact
    training: Execution | None = None
    evaluation: Execution | None = None
    version: int | None = None
    replay_spans: frozenset[SpanKey] | None = None

    @property
    def uri(self) -> str:
        """Where the model lies; what identifies it here."""
        return self.artifact.uri

    @property
    def digest(self) -> str | None:
        """Digest of the Model artifact."""
        return self.artifact.text(provenance.MODEL_DIGEST)

    @cached_property
    def spans(self) -> frozenset[SpanKey] | None:
        """Spans it trained on itself, replayed ones included; None if that was not recorded for all of its input."""
        examples = self.training.inputs.get(provenance.EXAMPLES_KEY, ()) if self.training else ()
        parts = [artifact.spans() for artifact in examples] + ([self.replay_spans] if self.replay else [])
        known = [part for part in parts if part is not None]
        return frozenset().union(*known) or None if len(known) == len(parts) else None

    @property
    def replay(self) -> Artifact | None:
        """The replay buffer it trained on; None also where a probe chose a cold start, which replays nothing."""
        if self.training is None or self.artifact.text(provenance.REPLAY_RATIO) == "0":
            return None
        return self.training.input(provenance.REPLAY_KEY)

    @property
    def is_warm_started(self) -> bool:
        """Whether it started from another model; one whose probe chose a cold start only looked at its base."""
        if self.artifact.text(provenance.INITIALISATION) == "cold":
            return False
        read = self.training is not None and self.training.input(provenance.BASE_MODEL_KEY) is not None
        return read or self.artifact.text(provenance.BASE_MODEL_DIGEST) is not None


@dataclass(frozen=True)
class ModelGraph:
    """All models of a store and which started from which. Models are identified by their uri, oldest first.

    An importer may have registered the same folder as a second artifact, and a moved folder has a second uri; so a base
    model is looked up by its uri and, failing that, by the digest that the Trainer recorded of it.
    """

    models: Mapping[str, ModelNode] = field(default_factory=dict)

    @cached_property
    def _by_digest(self) -> Mapping[str, ModelNode]:
        return {node.digest: node for node in self.models.values() if node.digest and node.training}

    def base_of(self, model: ModelNode) -> ModelNode | None:
        """Return the model that this one started from; None after a cold start, or where it cannot be found."""
        if not model.is_warm_started:
            return None
        base = model.training.input(provenance.BASE_MODEL_KEY) if model.training else None
        node = self.models.get(base.uri) if base else None
        if node is not None and node.training is not None:
            return node
        return self._by_digest.get(model.artifact.text(provenance.BASE_MODEL_DIGEST) or "", node)

    @cached_property
    def children(self) -> Mapping[str, tuple[ModelNode, ...]]:
        """Models by the uri of the model they started from."""
        children: dict[str, list[ModelNode]] = defaultdict(list)
        for model in self.models.values():
            if base := self.base_of(model):
                children[base.uri].append(model)
        return {uri: tuple(models) for uri, models in children.items()}


def load_models(store: MetadataStore) -> ModelGraph:
    """Read all models of a store in nine calls, however many there are; attempts that did not complete do not count.

    Of the executions that touch a model only those that trained one are read whole: an artifact that a Gate, a Pusher
    or a ReplayGen made tells which of the others they were.
    """
    models = sorted(store.get_artifacts_by_type(provenance.MODEL_TYPE), key=lambda model: model.id)
    if not models:
        return ModelGraph()
    found = [*models, *(artifact for name in _TELLING_TYPES for artifact in store.get_artifacts_by_type(name))]
    touching = store.get_events_by_artifact_ids([artifact.id for artifact in found])
    trainings = {event.execution_id for event in touching if _is_output(event, provenance.MODEL_KEY)}
    events = [event for event in touching if event.execution_id not in trainings]
    events += store.get_events_by_execution_ids(sorted(trainings)) if trainings else []
    unfinished = {execution.id for execution in store.get_executions(_INCOMPLETE)}
    events = [event for event in events if event.execution_id not in unfinished]
    artifacts = {artifact.id: _artifact(artifact) for artifact in found}
    read = {event.artifact_id for event in events if any(key in _TRAINER_KEYS for key, _ in _path(event))}
    others = store.get_artifacts_by_id(sorted(read - artifacts.keys())) if read - artifacts.keys() else []
    artifacts |= {artifact.id: _artifact(artifact) for artifact in others}
    return build_graph([artifacts[model.id] for model in models], _executions(events, artifacts))


def _is_output(event: Any, key: str) -> bool:
    return event.type in _OUTPUTS and any(step.key == key for step in event.path.steps)


def build_graph(models: Iterable[Artifact], executions: Iterable[Execution]) -> ModelGraph:
    """Join model artifacts with the executions that made, judged and pushed them; later executions win."""
    training: dict[str, Execution] = {}
    evaluation: dict[str, Execution] = {}
    version: dict[str, int] = {}
    buffers: dict[str, frozenset[SpanKey] | None] = {}
    for execution in executions:
        made = execution.output(provenance.MODEL_KEY)
        candidate = execution.input(provenance.MODEL_KEY)
        pushed = execution.output(provenance.PUSHED_MODEL_KEY)
        if buffer := execution.output(provenance.REPLAY_BUFFER_KEY):
            buffers[buffer.uri] = _spans_in_buffer(buffer, execution.input(provenance.PREVIOUS_BUFFER_KEY), buffers)
        if made and execution.inputs:
            training[made.uri] = execution
        if candidate and execution.output(provenance.GATE_REPORT_KEY):
            evaluation[candidate.uri] = execution
        if candidate and pushed and pushed.properties.get(provenance.PUSHED) == 1:
            version[candidate.uri] = pushed.properties[provenance.PUSHED_VERSION]
    nodes: dict[str, ModelNode] = {}
    for model in models:
        uri = model.uri
        node = ModelNode(model, training.get(uri), evaluation.get(uri), version.get(uri))
        replay_spans = buffers.get(node.replay.uri) if node.replay else None
        nodes.setdefault(uri, replace(node, replay_spans=replay_spans))
    return ModelGraph(nodes)


def _spans_in_buffer(
    buffer: Artifact, previous: Artifact | None, buffers: Mapping[str, frozenset[SpanKey] | None]
) -> frozenset[SpanKey] | None:
    """Return the spans of a replay buffer, which says only what it has more and what less than the one before."""
    if (listed := buffer.spans()) is not None:
        return listed  # as it was written before only the difference was
    before = buffers.get(previous.uri) if previous else frozenset()
    joined, left = buffer.spans(provenance.REPLAY_SPANS_JOINED), buffer.spans(provenance.REPLAY_SPANS_LEFT)
    return None if before is None or joined is None or left is None else before - left | joined


def _executions(events: Iterable[Any], artifacts: Mapping[int, Artifact]) -> list[Execution]:
    """Group events into executions, oldest first."""
    channels: dict[int, tuple[dict[str, list[tuple[int, Artifact]]], ...]] = defaultdict(
        lambda: (defaultdict(list), defaultdict(list))
    )
    for event in events:
        inputs, outputs = channels[event.execution_id]
        side = inputs if event.type in _INPUTS else outputs if event.type in _OUTPUTS else None
        if side is not None and event.artifact_id in artifacts:
            for key, index in _path(event):
                side[key].append((index, artifacts[event.artifact_id]))
    return [Execution(*map(_in_order, channels[execution_id])) for execution_id in sorted(channels)]


def _path(event: Any) -> list[tuple[str, int]]:
    """Return the channels an event speaks of: TFX writes its path as key, index, key, index, …."""
    steps = list(event.path.steps)
    return [(key.key, index.index) for key, index in zip(steps[::2], steps[1::2], strict=False)]


def _in_order(channels: Mapping[str, list[tuple[int, Artifact]]]) -> dict[str, tuple[Artifact, ...]]:
    return {
        key: tuple(artifact for _, artifact in sorted(entries, key=lambda entry: entry[0]))
        for key, entries in channels.items()
    }


def _artifact(artifact: Any) -> Artifact:
    properties = {name: getattr(value, value.WhichOneof("value")) for name, value in artifact.custom_properties.items()}
    created_at = datetime.fromtimestamp(artifact.create_time_since_epoch / 1000, UTC)
    return Artifact(artifact.uri, created_at, properties, artifact.state in _REMOVED)
