"""Runs of our DAG that were never run: what TFX and our components would write into ML Metadata, and nothing else.

The nodes, their types, contexts, channels and parameters come from the compiled pipeline, so they are those of the
product; the custom properties of artifacts stand here, as a real run of flights has them.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from lineage.runs import NODE_ID
from lineage.store import connection_config
from pipeline.config import Config, WindowOptions
from pipeline.graph import build_pipeline
from pipeline.knowledge import MAX_SCORED_SPANS
from pipeline.plan import Knowledge, Request, plan_run
from pipeline.runners import compile_pipeline
from schemas import provenance
from schemas.ledger_records import ChampionRecord, SpanRecord
from schemas.spans import SpanRef
from schemas.training import ModelShape

Properties = Mapping[str, str | int]
Channels = dict[str, list[mlmd.Artifact]]

IMPORTER_TYPE = "tfx.dsl.components.common.importer.Importer"
# What an importer of the compiled pipeline brings in, by the role it is named for.
IMPORTER_SUFFIX = "-importer"
# The Gate's parameter that grows with the first runs: a score a span, up to `MAX_SCORED_SPANS`.
_HISTORY = "prequential_history"
_RUN_ID = "20130101T000000000000-span-{span:06d}-v1"
_MOMENT = datetime(2013, 3, 1, tzinfo=UTC)
_SCORE = {"auc": 0.7012345678901234, "binary_crossentropy": 0.5012345678901234}


def digest_of(text: str) -> str:
    """Return 64 hexadecimal digits that are the text's own."""
    return hashlib.sha256(text.encode()).hexdigest()


def span_ref(span: int) -> SpanRef:
    """Return the reference of a span of the simulation."""
    return SpanRef(span=span, version=1, digest=digest_of(f"span {span}"))


class SimulatedRuns:
    """Writes one warm-started run after another into a store, each pushed and base of the next.

    Every node is written as TFX's launcher does it: registered with its inputs, then published with its outputs, each a
    transaction of its own. The replay buffer has examples of every span so far, as it has with `balance: time`.

    Args:
        store: An empty ML Metadata store.
        config: The pipeline's config.
        has_backslashes: Whether texts are written as they are; False puts a slash in place of each, for a backend that
            cannot store them.
    """

    def __init__(self, store: MetadataStore, config: Config, *, has_backslashes: bool = True) -> None:
        self._store = store
        self._has_backslashes = has_backslashes
        self._config = config
        self._types: dict[tuple[str, str], int] = {}
        self._last: dict[str, mlmd.Artifact] = {}
        self._dags = {is_cold: _compiled(config, is_cold=is_cold) for is_cold in (True, False)}
        self.num_runs = 0

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline whose runs these are."""
        return self._config.name

    @staticmethod
    def run_id(number: int) -> str:
        """Return the name of a run by its number, from 1."""
        return _RUN_ID.format(span=number)

    def write_run(self) -> None:
        """Write the next run: the first is cold, all others start from the model of the one before."""
        self.num_runs += 1
        span = self.num_runs
        made: dict[tuple[str, str], mlmd.Artifact] = {}
        imported = dict(self._last)
        for node in self._dags[span == 1]:
            outputs = self._write_node(node, span, made, imported)
            made.update({(node.node_info.id, key): artifact for key, artifact in outputs.items()})
        self._remember(made)

    def _write_node(
        self,
        node: Any,
        span: int,
        made: Mapping[tuple[str, str], mlmd.Artifact],
        imported: Mapping[str, mlmd.Artifact],
    ) -> dict[str, mlmd.Artifact]:
        inputs = {
            key: made[channel.producer_node_query.id, channel.output_key]
            for key, spec in node.inputs.inputs.items()
            for channel in spec.channels
        }
        execution = mlmd.Execution(
            type_id=self._type_id("execution", node.node_info.type),
            name=str(uuid.uuid4()),
            last_known_state=mlmd.Execution.RUNNING,
        )
        for key, value in node.parameters.parameters.items():
            execution.custom_properties[key].CopyFrom(value.field_value)
        execution.custom_properties[NODE_ID].string_value = node.node_info.id
        if _HISTORY in execution.custom_properties:
            scores = json.loads(execution.custom_properties[_HISTORY].string_value)
            execution.custom_properties[_HISTORY].string_value = json.dumps(scores[: span - 1])
        if not self._has_backslashes:
            for value in execution.custom_properties.values():
                if value.HasField("string_value"):
                    value.string_value = value.string_value.replace("\\", "/")
        contexts = list(self._contexts(node, span))
        events = _events(mlmd.Event.INPUT, inputs)
        execution.id = self._put(execution, events, contexts)
        role = node.node_info.id.removesuffix(IMPORTER_SUFFIX).replace("-", "_")
        is_import = node.node_info.type.name == IMPORTER_TYPE
        outputs = {"result": imported[role]} if is_import else self._new_outputs(node, span, execution.id, inputs)
        execution.last_known_state = mlmd.Execution.CACHED if is_import else mlmd.Execution.COMPLETE
        self._put(execution, _events(mlmd.Event.OUTPUT, outputs), contexts)
        return outputs

    def _put(self, execution: mlmd.Execution, events: list[Any], contexts: list[mlmd.Context]) -> int:
        execution_id, artifact_ids, _ = self._store.put_execution(
            execution, events, contexts, reuse_context_if_already_exist=True
        )
        for (artifact, _), artifact_id in zip(events, artifact_ids, strict=True):
            artifact.id = artifact_id
        return int(execution_id)

    def _contexts(self, node: Any, span: int) -> Iterator[mlmd.Context]:
        for spec in node.contexts.contexts:
            name = spec.name.field_value.string_value
            if spec.type.name == "pipeline_run":
                name = _RUN_ID.format(span=span)
            yield mlmd.Context(type_id=self._type_id("context", spec.type), name=name)
        if node.node_info.type.name != IMPORTER_TYPE:
            # TFX names one for every execution, whether its cache is on or not.
            cache = digest_of(f"{span} {node.node_info.id}")
            yield mlmd.Context(type_id=self._type_id("context", mlmd.ContextType(name="execution_cache")), name=cache)

    def _new_outputs(
        self, node: Any, span: int, execution_id: int, inputs: Mapping[str, mlmd.Artifact]
    ) -> dict[str, mlmd.Artifact]:
        outputs = {}
        for key, spec in node.outputs.outputs.items():
            kind = spec.artifact_spec.type
            artifact = mlmd.Artifact(
                type_id=self._type_id("artifact", kind),
                uri=str(self._config.artifacts_path.absolute() / node.node_info.id / key / str(execution_id)),
                state=mlmd.Artifact.LIVE,
            )
            properties: dict[str, str | int] = {"tfx_version": "1.16.0", "is_external": 0}
            properties |= dict(self._properties(kind.name, span, inputs))
            for name, value in properties.items():
                target = artifact.properties if name in kind.properties else artifact.custom_properties
                _set(target[name], value)
            outputs[key] = artifact
        return outputs

    def _properties(self, kind: str, span: int, inputs: Mapping[str, mlmd.Artifact]) -> Properties:
        """Return what our component, or TFX's, writes on an artifact of this type."""
        splits: Properties = {"span": span, "split_names": '["train", "eval"]'}
        model = inputs.get(provenance.MODEL_KEY)
        if kind == provenance.EXAMPLES_TYPE:
            spans = provenance.encode_spans([span_ref(span)])
            formats = {"file_format": "tfrecords_gzip", "payload_format": "FORMAT_TF_EXAMPLE"}
            return {**splits, **formats, "version": 1, provenance.EXAMPLES_SPANS: spans}
        if kind == "ExampleStatistics":
            return {**splits, "sample_rate_by_split": '{"train": "1.0", "eval": "1.0"}', "stats_dashboard_link": ""}
        if kind == "ExampleAnomalies":
            return {**splits, "blessed": '{"train": 1, "eval": 1}'}
        if kind == "DriftVerdict":
            return {provenance.DRIFT_VERDICT: 0}
        if kind == provenance.REPLAY_BUFFER_TYPE:
            joined = provenance.encode_spans([span_ref(span)])
            previous = {provenance.REPLAY_PREVIOUS: self._last["replay"].uri} if "replay" in self._last else {}
            return {provenance.REPLAY_SPANS_JOINED: joined, provenance.REPLAY_SPANS_LEFT: "[]", **previous}
        if kind == provenance.MODEL_TYPE:
            return self._model_properties(span)
        if kind == "GateVerdict":
            return {provenance.EVALUATION_METRICS: json.dumps(_SCORE)}
        if kind == provenance.BLESSING_TYPE and model:
            return {provenance.BLESSED: 1, "current_model": model.uri, "current_model_id": model.id}
        if kind == provenance.PUSHED_MODEL_TYPE:
            destination = str(self._config.serving_path.absolute() / str(span))
            return {
                provenance.PUSHED: 1,
                provenance.PUSHED_VERSION: span,
                provenance.PUSHED_DESTINATION: destination,
            }
        return {}

    def _model_properties(self, span: int) -> Properties:
        base = {} if span == 1 else {provenance.BASE_MODEL_DIGEST: digest_of(f"model {span - 1}")}
        return base | {
            provenance.MODEL_DIGEST: digest_of(f"model {span}"),
            provenance.TRAINING_DIGEST: digest_of(f"training {span}"),
            provenance.TRANSFORM_GRAPH_DIGEST: digest_of("graph"),
            provenance.SCHEMA_DIGEST: digest_of("schema"),
            provenance.CONFIG_DIGEST: self._config.digest,
            provenance.CODE_DIGEST: digest_of("code"),
            provenance.HYPERPARAMETERS: self._config.training.model_dump_json(),
            provenance.INITIALISATION: "cold" if span == 1 else "warm",
            provenance.REGULARISATION: "{}",
            provenance.REPLAY_RATIO: str(self._config.training.replay_ratio),
            provenance.RUN_ID: _RUN_ID.format(span=span),
        }

    def _remember(self, made: Mapping[tuple[str, str], mlmd.Artifact]) -> None:
        """Keep what the next run imports, by the role it has there."""
        model = made["Trainer", "model"]
        statistics = made["StatisticsGen", "statistics"]
        latest = {"previous_statistics": statistics, "base_model": model, "champion": model}
        if ("ReplayGen", "buffer") in made:
            latest["replay"] = made["ReplayGen", "buffer"]
        if ("Transform", "transform_graph") in made:
            latest |= {"transform_graph": made["Transform", "transform_graph"], "reference_statistics": statistics}
        self._last |= latest

    def _type_id(self, side: str, kind: Any) -> int:
        key = (side, kind.name)
        if key not in self._types:
            put = getattr(self._store, f"put_{side}_type")
            self._types[key] = int(put(kind, can_add_fields=True, can_omit_fields=True))
        return self._types[key]


def _events(
    kind: "mlmd.Event.Type.ValueType", channels: Mapping[str, mlmd.Artifact]
) -> list[tuple[mlmd.Artifact, mlmd.Event]]:
    """Return one event an artifact; like TFX, one that came through two channels has both in its path."""
    found: dict[int, tuple[mlmd.Artifact, mlmd.Event]] = {}
    for key, artifact in channels.items():
        _, event = found.setdefault(artifact.id or id(artifact), (artifact, mlmd.Event(type=kind)))
        event.path.steps.add().key = key
        event.path.steps.add().index = 0
    return list(found.values())


def _set(target: mlmd.Value, value: str | int) -> None:
    if isinstance(value, int):
        target.int_value = value
    else:
        target.string_value = value


def _compiled(config: Config, *, is_cold: bool) -> list[Any]:
    """Return the nodes of a run as TFX compiles them, in the order in which they run."""
    past = () if is_cold else tuple(_record(span, config) for span in range(1, MAX_SCORED_SPANS + 1))
    ref = span_ref(len(past) + 1)
    knowledge = Knowledge(
        spans=(*(record.ref for record in past), ref),
        records=past,
        champion=None if is_cold else _champion(config),
        shape=ModelShape(feature_set=config.feature_set, model=config.training.model),
    )
    request = Request(span=ref, trigger="new-span", now=_MOMENT, push_version=ref.span)
    window = WindowOptions(cold_spans=1, warm_spans=1)
    plan = plan_run(knowledge, request, window, initialisation=config.training.initialisation)
    compiled = compile_pipeline(build_pipeline(config, plan, code_digest=digest_of("code")), plan.run_id)
    return [entry.pipeline_node for entry in compiled.nodes]


def _record(span: int, config: Config) -> SpanRecord:
    return SpanRecord(
        **span_ref(span).model_dump(),
        state="pushed",
        num_examples=6000,
        statistics_uri=str(config.artifacts_path / "StatisticsGen" / "statistics" / str(span)),
        replay_uri=str(config.artifacts_path / "ReplayGen" / "buffer" / str(span)),
        prequential=_SCORE,
        updated_at=_MOMENT,
    )


def _champion(config: Config) -> ChampionRecord:
    return ChampionRecord(
        version=1,
        run_id=_RUN_ID.format(span=1),
        span=1,
        span_version=1,
        model_uri=str(config.artifacts_path / "Trainer" / "model" / "1"),
        model_digest=digest_of("model 1"),
        training_digest=digest_of("training 1"),
        transform_graph_uri=str(config.artifacts_path / "Transform" / "transform_graph" / "1"),
        transform_span=MAX_SCORED_SPANS,
        statistics_uri=str(config.artifacts_path / "StatisticsGen" / "statistics" / "1"),
        model_shape=ModelShape(feature_set=config.feature_set, model=config.training.model).model_dump_json(),
        pushed_at=_MOMENT,
        moved_at=_MOMENT,
    )


def sqlite_store(path: Path) -> MetadataStore:
    """Open a new store in an SQLite file, as TFX does."""
    return MetadataStore(connection_config(f"sqlite:///{path}"))
