"""The family tree of models, from artifacts and events of ML Metadata. Questions to it are in `lineage.queries`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from lineage.links import Link, read_links
from schemas import provenance

_REMOVED = frozenset({metadata_store_pb2.Artifact.MARKED_FOR_DELETION, metadata_store_pb2.Artifact.DELETED})
_States = metadata_store_pb2.Execution
# An execution without a state was written by something older than states, and counts.
_COMPLETE = (_States.COMPLETE, _States.CACHED, _States.UNKNOWN)
# Their events tell which of the executions that read a model judged it.
_JUDGEMENT_TYPES = (provenance.GATE_REPORT_TYPE, provenance.BLESSING_TYPE)


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


def load_models(store: MetadataStore, *, evaluated: Collection[int] | None = None) -> ModelGraph:
    """Read all models of a store in ten calls, however many there are; attempts that did not complete do not count.

    Of the executions that touch a model only those that trained one are read whole: what a Pusher or a Gate made tells
    which of the others they were.

    Args:
        store: An open store.
        evaluated: Versions whose evaluation is wanted; reading those of a thousand models takes a while. None: all.
    """
    models = _artifacts_of_type(store, provenance.MODEL_TYPE)
    if not models:
        return ModelGraph()
    buffers = _artifacts_of_type(store, provenance.REPLAY_BUFFER_TYPE)
    pushed = store.get_artifacts_by_type(provenance.PUSHED_MODEL_TYPE)
    judgements = (artifact for name in _JUDGEMENT_TYPES for artifact in store.get_artifacts_by_type(name))
    found = [*models, *pushed, *(judgements if evaluated is None else ())]
    links = read_links(store.get_events_by_artifact_ids([artifact.id for artifact in found]))
    whole = {link.execution_id for link in links if link.is_output and link.key == provenance.MODEL_KEY}
    if evaluated:
        whole |= _readers_of(links, {artifact.id for artifact in pushed if _version_of(artifact) in evaluated})
    links = [link for link in links if link.execution_id not in whole]
    links += read_links(store.get_events_by_execution_ids(sorted(whole))) if whole else []
    # By id, not by a query on the state: the newer stack's ML Metadata has none. What made nothing says nothing.
    makers = {link.execution_id for link in links if link.is_output}
    executions = store.get_executions_by_id(sorted(makers)) if makers else []
    complete = {execution.id for execution in executions if execution.last_known_state in _COMPLETE}
    links = [link for link in links if link.execution_id in complete]
    found += buffers
    missing = {link.artifact_id for link in links}.difference(artifact.id for artifact in found)
    found += store.get_artifacts_by_id(sorted(missing)) if missing else []
    artifacts = {artifact.id: _artifact(artifact) for artifact in found}
    return build_graph(
        [artifacts[model.id] for model in models],
        _executions(links, artifacts),
        [artifacts[buffer.id] for buffer in buffers],
    )


def _artifacts_of_type(store: MetadataStore, type_name: str) -> list[Any]:
    """Return all artifacts of a type, oldest first."""
    return sorted(store.get_artifacts_by_type(type_name), key=lambda artifact: int(artifact.id))


def _readers_of(links: Iterable[Link], pushed_ids: Collection[int]) -> set[int]:
    """Return the executions that read, as their candidate, a model that was pushed as one of these artifacts."""
    pushers = {link.execution_id for link in links if link.is_output and link.artifact_id in pushed_ids}
    readers = [link for link in links if not link.is_output and link.key == provenance.MODEL_KEY]
    models = {link.artifact_id for link in readers if link.execution_id in pushers}
    return {link.execution_id for link in readers if link.artifact_id in models}


def _version_of(pushed: Any) -> int | None:
    return _Properties(pushed.custom_properties).get(provenance.PUSHED_VERSION)


def build_graph(
    models: Iterable[Artifact], executions: Iterable[Execution], buffers: Iterable[Artifact] = ()
) -> ModelGraph:
    """Join model artifacts with the executions that made, judged and pushed them; later executions win.

    Args:
        models: Model artifacts, oldest first.
        executions: Executions, oldest first.
        buffers: All replay buffers of the store, oldest first.
    """
    replay_spans = _spans_of_buffers(buffers)
    training: dict[str, Execution] = {}
    evaluation: dict[str, Execution] = {}
    version: dict[str, int] = {}
    for execution in executions:
        made = execution.output(provenance.MODEL_KEY)
        candidate = execution.input(provenance.MODEL_KEY)
        pushed = execution.output(provenance.PUSHED_MODEL_KEY)
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
        nodes.setdefault(uri, replace(node, replay_spans=replay_spans.get(node.replay.uri) if node.replay else None))
    return ModelGraph(nodes)


def _spans_of_buffers(buffers: Iterable[Artifact]) -> Mapping[str, frozenset[SpanKey] | None]:
    """Return the spans in every replay buffer by its uri; None where they are not known.

    A buffer says only what it has more and what less than the one before, which is always older.
    """
    spans: dict[str, frozenset[SpanKey] | None] = {}
    for buffer in buffers:
        previous = buffer.text(provenance.REPLAY_PREVIOUS)
        before = spans.get(previous) if previous else frozenset()
        joined, left = buffer.spans(provenance.REPLAY_SPANS_JOINED), buffer.spans(provenance.REPLAY_SPANS_LEFT)
        if (listed := buffer.spans()) is not None:
            spans[buffer.uri] = listed  # as all were written before only the difference was
        elif before is None or joined is None or left is None:
            spans[buffer.uri] = None
        else:
            spans[buffer.uri] = (before - left if left else before) | joined
    return spans


def _executions(links: Iterable[Link], artifacts: Mapping[int, Artifact]) -> Iterator[Execution]:
    """Group links into executions, oldest first."""
    for _, group in groupby(sorted(links), key=attrgetter("execution_id")):
        sides: tuple[dict[str, tuple[Artifact, ...]], ...] = ({}, {})
        for link in group:
            side = sides[link.is_output]
            side[link.key] = (*side.get(link.key, ()), artifacts[link.artifact_id])
        yield Execution(inputs=sides[False], outputs=sides[True])


def _artifact(artifact: Any) -> Artifact:
    created_at = datetime.fromtimestamp(artifact.create_time_since_epoch / 1000, UTC)
    properties = _Properties(artifact.custom_properties)
    return Artifact(artifact.uri, created_at, properties, artifact.state in _REMOVED)


class _Properties(Mapping[str, Any]):
    """Custom properties as ML Metadata has them; each is converted when it is asked for, and most never are."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        # A protobuf map makes an entry of whatever it is asked for.
        if name not in self._values:
            raise KeyError(name)
        value = self._values[name]
        return getattr(value, value.WhichOneof("value"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
