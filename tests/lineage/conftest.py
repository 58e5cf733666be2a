"""ML Metadata stores as TFX writes them: one execution a node, artifacts tied to it by events with channel paths."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from lineage.graph import ModelGraph, load_models
from lineage.store import connection_config, opened_store
from schemas import provenance
from schemas.replay import MEMBERSHIP_FILE, Membership
from schemas.spans import SpanRef

Channels = Mapping[str, list[mlmd.Artifact]]


@dataclass
class PipelineHistory:
    """Writes cycles of our DAG into a store, the way TFX's local runners do."""

    url: str
    folder: Path
    num_artifacts: int = 0
    _types: dict[str, int] = field(default_factory=dict)
    _members: dict[str, set[SpanRef]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MetadataStore(connection_config(self.url))

    def graph(self) -> ModelGraph:
        with opened_store(self.url) as store:
            return load_models(store)

    def artifact(
        self, type_name: str, properties: Mapping[str, str | int] | None = None, uri: str | None = None
    ) -> mlmd.Artifact:
        """Make an artifact that the next `run` saves."""
        if type_name not in self._types:
            self._types[type_name] = self.store.put_artifact_type(mlmd.ArtifactType(name=type_name))
        self.num_artifacts += 1
        artifact = mlmd.Artifact(
            type_id=self._types[type_name], uri=uri or f"/artifacts/{type_name}/{self.num_artifacts}"
        )
        for name, value in (properties or {}).items():
            if isinstance(value, int):
                artifact.custom_properties[name].int_value = value
            else:
                artifact.custom_properties[name].string_value = value
        return artifact

    def run(
        self,
        node: str,
        inputs: Channels,
        outputs: Channels,
        *,
        state: mlmd.Execution.State = mlmd.Execution.COMPLETE,
        run_id: str | None = None,
    ) -> None:
        """Save one execution with its events, of a run where one is named, and give new artifacts their ids."""
        kind = self.store.put_execution_type(mlmd.ExecutionType(name=node))
        execution = mlmd.Execution(type_id=kind, last_known_state=state)
        pairs = []
        for channels, event_type in ((inputs, mlmd.Event.INPUT), (outputs, mlmd.Event.OUTPUT)):
            for key, artifacts in channels.items():
                for index, artifact in enumerate(artifacts):
                    event = mlmd.Event(type=event_type)
                    event.path.steps.add().key = key
                    event.path.steps.add().index = index
                    pairs.append((artifact, event))
        contexts = [("pipeline_run", run_id), ("node", f"flights.{node}")] if run_id else []
        _, ids, _ = self.store.put_execution(
            execution,
            pairs,
            [mlmd.Context(type_id=self._context_type(kind), name=name) for kind, name in contexts],
            reuse_context_if_already_exist=True,
        )
        for (artifact, _), artifact_id in zip(pairs, ids, strict=True):
            artifact.id = artifact_id

    def _context_type(self, name: str) -> int:
        return int(self.store.put_context_type(mlmd.ContextType(name=name)))

    def examples(self, *spans: SpanRef) -> mlmd.Artifact:
        artifact = self.artifact("Examples", {provenance.EXAMPLES_SPANS: provenance.encode_spans(spans)})
        self.run("ExampleGen", {}, {"examples": [artifact]})
        return artifact

    def replay(self, previous: mlmd.Artifact | None = None, **members: int) -> mlmd.Artifact:
        """Make a replay buffer with `s7=12`: 12 examples of span 7 version 1."""
        counts = {f"{name.removeprefix('s')}-1": count for name, count in members.items()}
        folder = self.folder / f"buffer-{len(self._members)}"
        folder.mkdir(parents=True)
        membership = Membership(num_seen={"train": 100}, members={"train": counts})
        (folder / MEMBERSHIP_FILE).write_text(membership.model_dump_json())
        after = {SpanRef(span=int(name.partition("-")[0]), version=1, digest="d") for name in counts}
        before = self._members[previous.uri] if previous else set()
        self._members[str(folder)] = after
        properties: dict[str, str | int] = {
            provenance.REPLAY_SPANS_JOINED: provenance.encode_spans(after - before),
            provenance.REPLAY_SPANS_LEFT: provenance.encode_spans(before - after),
        }
        if previous:
            properties[provenance.REPLAY_PREVIOUS] = previous.uri
        artifact = self.artifact(provenance.REPLAY_BUFFER_TYPE, properties, uri=str(folder))
        self.run("ReplayGen", {"previous": [previous]} if previous else {}, {"buffer": [artifact]})
        return artifact

    def train(
        self,
        *examples: mlmd.Artifact,
        base: mlmd.Artifact | None = None,
        replay: mlmd.Artifact | None = None,
        properties: dict[str, str | int] | None = None,
    ) -> mlmd.Artifact:
        """Run importers and Trainer; the digest of a model is its number, in hexadecimal, 64 digits."""
        graph = self.artifact("TransformGraph")
        schema = self.artifact("Schema")
        self.run("Transform", {"examples": list(examples)}, {"transform_graph": [graph]})
        self.run("ImportSchemaGen", {}, {"schema": [schema]})
        inputs = {"examples": list(examples), "transform_graph": [graph], "schema": [schema]}
        recorded: dict[str, str | int] = {
            provenance.MODEL_DIGEST: f"{self.num_artifacts:064x}",
            provenance.TRANSFORM_GRAPH_DIGEST: "1" * 64,
            provenance.SCHEMA_DIGEST: "2" * 64,
            provenance.CONFIG_DIGEST: "3" * 64,
            provenance.CODE_DIGEST: "4" * 64,
            provenance.HYPERPARAMETERS: json.dumps({"batch_size": 256}),
            provenance.INITIALISATION: "warm" if base else "cold",
            provenance.RUN_ID: f"run-{self.num_artifacts}",
        }
        if base:
            # Importers reuse the artifact of the same uri and type, and write an output event of their own.
            self.run("Importer", {}, {"result": [base]})
            inputs["base_model"] = [base]
            # Asked first, since reading a missing property would make an empty one, on which ML Metadata aborts.
            if provenance.MODEL_DIGEST in base.custom_properties:
                recorded[provenance.BASE_MODEL_DIGEST] = base.custom_properties[provenance.MODEL_DIGEST].string_value
        if replay:
            inputs[provenance.REPLAY_KEY] = [replay]
        model = self.artifact("Model", recorded | (properties or {}))
        self.run("Trainer", inputs, {"model": [model], "model_run": [self.artifact("ModelRun")]})
        return model

    def remove(self, artifact: mlmd.Artifact) -> None:
        """Mark an artifact as garbage collection does when it has removed the files."""
        (stored,) = self.store.get_artifacts_by_id([artifact.id])
        stored.state = mlmd.Artifact.DELETED
        self.store.put_artifacts([stored])

    def judge(
        self,
        model: mlmd.Artifact,
        *,
        version: int | None,
        champion: mlmd.Artifact | None = None,
        metrics: str = '{"auc": 0.7}',
    ) -> None:
        """Run Evaluator, Gate and Pusher; without a version the gate said no."""
        evaluation = self.artifact("ModelEvaluation")
        report = self.artifact("GateVerdict", {provenance.EVALUATION_METRICS: metrics})
        blessing = self.artifact("ModelBlessing", {provenance.BLESSED: int(version is not None)})
        inputs = {"model": [model]} | ({"baseline_model": [champion]} if champion else {})
        self.run("Evaluator", inputs, {"evaluation": [evaluation]})
        judged = {"model": [model], "evaluation": [evaluation]} | ({"champion": [champion]} if champion else {})
        self.run("Gate", judged, {"report": [report], "blessing": [blessing]})
        pushed: dict[str, str | int] = {provenance.PUSHED: int(version is not None)}
        if version is not None:
            pushed[provenance.PUSHED_VERSION] = version
        outputs = {"pushed_model": [self.artifact("PushedModel", pushed)]}
        self.run("Pusher", {"model": [model], "blessing": [blessing]}, outputs)


@pytest.fixture
def make_history(tmp_path: Path) -> Callable[..., PipelineHistory]:
    """Make an empty store, in a file or at a URL; each call makes another."""
    made: list[PipelineHistory] = []

    def make(url: str | None = None) -> PipelineHistory:
        where = url or f"sqlite:///{tmp_path}/metadata-{len(made)}.sqlite"
        made.append(PipelineHistory(where, tmp_path / f"history-{len(made)}"))
        return made[-1]

    return make


@pytest.fixture
def make_ref() -> Callable[..., SpanRef]:
    def make(span: int, version: int = 1) -> SpanRef:
        return SpanRef(span=span, version=version, digest=f"{span:032x}{version:032x}")

    return make
