"""The TFX DAG of one plan. It holds no resolver: all that the plan chose enters as parameters and importers."""

import json
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from tfx.components import Evaluator, ExampleValidator, StatisticsGen
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2
from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import ExampleStatistics, Model, TransformGraph

from components.drift_gate import DriftGate
from components.example_gen import ExampleGen
from components.gate import Gate
from components.prequential import Prequential
from components.pusher import Pusher
from components.replay_gen import ReplayGen
from components.trainer import PROVENANCE_KEY, Trainer
from components.transform import Transform
from pipeline.config import Config
from pipeline.evaluation import evaluation_config
from pipeline.plan import RunPlan
from schemas import provenance
from schemas.artifacts import ReplayBuffer
from schemas.features import FEATURE_SET_KEY, FeatureSet
from schemas.loader import feature_types, load_schema
from schemas.provenance import encode_spans
from schemas.spans import SpanRef
from schemas.training import REQUEST_KEY, TrainerRequest
from schemas.verdicts import Verdict

# Exact distances and new values need every token of a feature in the statistics; TFDV keeps 1,000 by default.
RANK_HISTOGRAM_BUCKETS = 10_000
# Beam's own default may start a downloaded Prism binary; this runner is in process, and repeatable.
# Beam's type checks of the graphs that TFX's own components build cost a second a node and find nothing.
BEAM_ARGS = [
    "--runner=FnApiRunner",
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--no_pipeline_type_check",
    # Names an image that nothing pulls: without one, TFX packs its own sources for remote workers before every Beam
    # node, which takes seconds and leaves a temporary folder behind each time.
    "--sdk_container_image=in-process",
]


def build_pipeline(config: Config, plan: RunPlan, *, code_digest: str) -> Pipeline:
    """Return the DAG that does what `plan` says, and nothing else.

    Args:
        config: The pipeline's config.
        plan: What to read.
        code_digest: Digest of our sources, recorded on the model.
    """
    examples = _example_gen(config, (plan.span,), "ExampleGen")
    schema = ImportSchemaGen(schema_file=str(Path(config.schema_file).absolute()))
    if plan.candidate_uri is not None:
        return _pipeline(config, [examples, schema, *_judgement(config, plan, examples, schema)])
    statistics = _statistics_gen(examples.outputs["examples"], schema.outputs["schema"], "StatisticsGen")
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    importers = _importers(plan)
    gate = DriftGate(
        statistics=statistics.outputs["statistics"],
        anomalies=validator.outputs["anomalies"],
        feature_set=_raw_feature_set(config).model_dump_json(),
        options=config.drift.model_dump_json(),
        **{
            key: importers[key].outputs["result"]
            for key in ("previous_statistics", "reference_statistics")
            if key in importers
        },
    )
    # A cold plan is the answer to `cold_start`; a warm plan stops there and is made again, cold.
    limit = Verdict.BLOCK if plan.initialisation == "cold" else Verdict.COLD_START
    verdict = gate.outputs["verdict"].future()[0].custom_property(provenance.DRIFT_VERDICT)
    with Cond(verdict < int(limit)):
        windows = _Windows(config, plan, examples)
        imported = {role: importer.outputs["result"] for role, importer in importers.items()}
        guarded = _training_nodes(config, plan, windows, schema.outputs["schema"], imported, code_digest)
    return _pipeline(
        config, [examples, statistics, schema, validator, *importers.values(), gate, *windows.nodes, *guarded]
    )


def _pipeline(config: Config, components: list[Any]) -> Pipeline:
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.artifacts_path),
        components=components,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(config.metadata_path)),
        enable_cache=False,
        beam_pipeline_args=BEAM_ARGS,
    )


class _Windows:
    """The Examples of the plan's windows, each made by one node however many nodes read it.

    Attributes:
        nodes: The nodes that make windows of more than the span itself.
    """

    def __init__(self, config: Config, plan: RunPlan, span_examples: Any) -> None:
        self.nodes: list[Any] = []
        self._config = config
        self._made: dict[tuple[SpanRef, ...], Any] = {(plan.span,): span_examples}

    def examples(self, spans: tuple[SpanRef, ...], node_id: str) -> BaseChannel:
        """Return the examples of `spans`; the node is named by the first that asks."""
        if spans not in self._made:
            self._made[spans] = _example_gen(self._config, spans, node_id)
            self.nodes.append(self._made[spans])
        return self._made[spans].outputs["examples"]


def _training_nodes(
    config: Config,
    plan: RunPlan,
    windows: _Windows,
    schema: BaseChannel,
    imported: dict[str, BaseChannel],
    code_digest: str,
) -> list[Any]:
    span_examples = windows.examples((plan.span,), "ExampleGen")
    if plan.action == "score":
        return _before_training(config, plan, span_examples, span_examples, imported)[0]
    examples = windows.examples(plan.window, "WindowExampleGen")
    nodes, score = _before_training(config, plan, span_examples, examples, imported)
    transform_graph = imported.get("transform_graph")
    if transform_graph is None:
        analysis_nodes, transform_graph = _analysis_nodes(config, plan, windows, schema, imported)
        nodes += analysis_nodes
    trainer = Trainer(
        run_fn="trainer.run_fn.run_fn",
        examples=examples,
        transform_graph=transform_graph,
        schema=schema,
        base_model=imported.get("base_model"),
        replay=imported.get("replay") if _is_replayed(config, plan) else None,
        custom_config=_trainer_config(config, plan, code_digest),
    )
    judging = _judging_nodes(config, plan, span_examples, schema, trainer.outputs["model"], imported, score)
    return [*nodes, trainer, *judging]


def _judgement(config: Config, plan: RunPlan, examples: Any, schema: ImportSchemaGen) -> list[Any]:
    """Return what judges a candidate that an earlier run trained against the champion of now."""
    importers = _importers(plan)
    read = {role: importer for role, importer in importers.items() if role in ("candidate", "champion", "replay")}
    imported = {role: importer.outputs["result"] for role, importer in read.items()}
    candidate = imported.pop("candidate")
    span_examples, schema_channel = examples.outputs["examples"], schema.outputs["schema"]
    nodes = _judging_nodes(config, plan, span_examples, schema_channel, candidate, imported, None)
    return [*read.values(), *nodes]


def _judging_nodes(
    config: Config,
    plan: RunPlan,
    span_examples: BaseChannel,
    schema: BaseChannel,
    model: BaseChannel,
    imported: dict[str, BaseChannel],
    score: BaseChannel | None,
) -> list[Any]:
    evaluator = Evaluator(
        examples=span_examples,
        model=model,
        schema=schema,
        eval_config=evaluation_config(config.label, config.gate),
        # Where TFX looks for `custom_extractors`.
        module_path="pipeline.class_labels" if config.label.task == "multiclass" else None,
    )
    gate = Gate(
        evaluation=evaluator.outputs["evaluation"],
        model=model,
        examples=span_examples,
        options=config.gate.model_dump_json(),
        label=config.label.model_dump_json(),
        prequential_history=json.dumps([earlier.model_dump() for earlier in plan.prequential_history]),
        is_warm=int(plan.initialisation != "cold"),
        **{role: imported[role] for role in ("champion", "replay") if role in imported},
        **({"prequential": score} if score else {}),
    )
    pusher = Pusher(
        model=model,
        blessing=gate.outputs["blessing"],
        destination=str(config.serving_path),
        version=plan.push_version,
    )
    return [evaluator, gate, pusher]


def _before_training(
    config: Config,
    plan: RunPlan,
    span_examples: BaseChannel,
    window_examples: BaseChannel,
    imported: dict[str, BaseChannel],
) -> tuple[list[Any], BaseChannel | None]:
    """Return the nodes that use a span's examples as they come: its score by the champion, and the replay buffer."""
    nodes: list[Any] = []
    score = None
    label = config.label.model_dump_json()
    if plan.is_prequential:
        prequential = Prequential(examples=span_examples, champion=imported["champion"], label=label)
        nodes.append(prequential)
        score = prequential.outputs["score"]
    # A shadow model's spans were offered to the buffer by the cycles before it.
    if (config.replay.train_examples or config.replay.eval_examples) and not plan.is_shadow:
        previous = {"previous": imported["replay"]} if "replay" in imported else {}
        options = config.replay.model_dump_json()
        seed = config.training.seed
        nodes.append(ReplayGen(examples=window_examples, options=options, label=label, seed=seed, **previous))
    return nodes, score


def _analysis_nodes(
    config: Config, plan: RunPlan, windows: _Windows, schema: BaseChannel, imported: dict[str, BaseChannel]
) -> tuple[list[Any], BaseChannel]:
    """Return what makes a new transform graph, and the graph; with a base model the graph grows from the base's."""
    nodes: list[Any] = []
    examples = windows.examples(plan.analysis_window, "AnalysisExampleGen")
    if plan.analysis_window != (plan.span,):
        # The reference of later spans: what the new transform graph was analysed on.
        nodes.append(_statistics_gen(examples, schema, "WindowStatisticsGen"))
    transform = _transform(config, examples, schema, imported.get("base_model"))
    return [*nodes, transform], transform.outputs["transform_graph"]


def _is_replayed(config: Config, plan: RunPlan) -> bool:
    return plan.initialisation != "cold" and config.training.replay_ratio > 0


def _raw_feature_set(config: Config) -> FeatureSet:
    """Return the feature set without the features that only the user's `preprocessing_fn` makes: spans lack them."""
    columns = feature_types(load_schema(Path(config.schema_file)))
    raw = {name: spec for name, spec in config.features.items() if name in columns}
    return config.feature_set.model_copy(update={"features": raw or config.features})


def _example_gen(config: Config, spans: tuple[SpanRef, ...], node_id: str) -> Any:
    return ExampleGen(spans_root=str(config.spans_path), spans=encode_spans(spans)).with_id(node_id)


def _statistics_gen(examples: BaseChannel, schema: BaseChannel, node_id: str) -> StatisticsGen:
    options = tfdv.StatsOptions(num_rank_histogram_buckets=RANK_HISTOGRAM_BUCKETS)
    return StatisticsGen(examples=examples, schema=schema, stats_options=options).with_id(node_id)


def _transform(config: Config, examples: BaseChannel, schema: BaseChannel, base_model: BaseChannel | None) -> Transform:
    return Transform(
        examples=examples,
        schema=schema,
        base_model=base_model,
        preprocessing_fn="transform.preprocessing.preprocessing_fn",
        custom_config={FEATURE_SET_KEY: config.feature_set.model_dump_json()},
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train"]),
        # The Trainer maps the graph over raw examples, so nothing transformed is stored; TFDV ran already.
        materialize=False,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )


def _trainer_config(config: Config, plan: RunPlan, code_digest: str) -> dict[str, Any]:
    request = TrainerRequest(
        feature_set=config.feature_set,
        options=config.training,
        initialisation=plan.initialisation,
        base_model_digest=plan.base.training_digest if plan.base else None,
        line_length=plan.line_length,
        checkpoint_dir=str(config.checkpoints_path / plan.checkpoint_name),
    )
    return {
        REQUEST_KEY: request.model_dump_json(),
        PROVENANCE_KEY: {
            provenance.RUN_ID: plan.run_id,
            provenance.CONFIG_DIGEST: config.digest,
            provenance.CODE_DIGEST: code_digest,
            provenance.HYPERPARAMETERS: config.training.model_dump_json(),
        },
    }


def _importers(plan: RunPlan) -> dict[str, Importer]:
    """Return importers of what the plan chose, by role. They stand outside the condition: KFP refuses them inside."""
    chosen: dict[str, tuple[str | None, Any]] = {
        "previous_statistics": (plan.previous_statistics_uri, ExampleStatistics),
        "reference_statistics": (plan.reference_statistics_uri, ExampleStatistics),
        "transform_graph": (plan.transform_graph_uri, TransformGraph),
        "base_model": (plan.base_model_uri, Model),
        "candidate": (plan.candidate_uri, Model),
        "champion": (plan.champion.model_uri if plan.champion else None, Model),
        "replay": (plan.replay_uri, ReplayBuffer),
    }
    return {
        role: Importer(source_uri=uri, artifact_type=kind).with_id(role.replace("_", "-") + "-importer")
        for role, (uri, kind) in chosen.items()
        if uri is not None
    }
