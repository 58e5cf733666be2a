"""The TFX DAG of one plan. It holds no resolver: all that the plan chose enters as parameters and importers."""

from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2
from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import ExampleStatistics, Model, TransformGraph

from components.drift_gate import DriftGate
from components.evaluator import Evaluator
from components.example_gen import ExampleGen
from components.pusher import Pusher
from components.trainer import PROVENANCE_KEY, Trainer
from pipeline.config import Config
from pipeline.evaluation import evaluation_config
from pipeline.plan import RunPlan
from schemas import provenance
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
    statistics = _statistics_gen(examples, schema.outputs["schema"], "StatisticsGen")
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
        guarded = _training_nodes(config, plan, examples, schema.outputs["schema"], importers, code_digest)
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.artifacts_path),
        components=[examples, statistics, schema, validator, *importers.values(), gate, *guarded],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(config.metadata_path)),
        enable_cache=False,
        beam_pipeline_args=BEAM_ARGS,
    )


def _training_nodes(
    config: Config,
    plan: RunPlan,
    examples: Any,
    schema: BaseChannel,
    importers: dict[str, Importer],
    code_digest: str,
) -> list[Any]:
    nodes: list[Any] = []
    window = examples
    if plan.window != (plan.span,):
        window = _example_gen(config, plan.window, "WindowExampleGen")
        nodes.append(window)
    if "transform_graph" in importers:
        transform_graph = importers["transform_graph"].outputs["result"]
    else:
        if window is not examples:
            # The reference of later spans: what the new transform graph was analysed on.
            nodes.append(_statistics_gen(window, schema, "WindowStatisticsGen"))
        transform = _transform(config, window.outputs["examples"], schema)
        nodes.append(transform)
        transform_graph = transform.outputs["transform_graph"]
    trainer = Trainer(
        run_fn="trainer.run_fn.run_fn",
        examples=window.outputs["examples"],
        transform_graph=transform_graph,
        schema=schema,
        base_model=importers["base_model"].outputs["result"] if "base_model" in importers else None,
        custom_config=_trainer_config(config, plan, code_digest),
    )
    champion = importers["champion"].outputs["result"] if "champion" in importers else None
    evaluator = Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=champion,
        schema=schema,
        eval_config=evaluation_config(config.label, config.gate, has_champion=champion is not None),
        # Where TFX looks for `custom_extractors`.
        module_path="pipeline.class_labels" if config.label.task == "multiclass" else None,
    )
    pusher = Pusher(
        model=trainer.outputs["model"],
        blessing=evaluator.outputs["blessing"],
        destination=str(config.serving_path),
        version=plan.push_version,
    )
    return [*nodes, trainer, evaluator, pusher]


def _raw_feature_set(config: Config) -> FeatureSet:
    """Return the feature set without the features that only the user's `preprocessing_fn` makes: spans lack them."""
    columns = feature_types(load_schema(Path(config.schema_file)))
    raw = {name: spec for name, spec in config.features.items() if name in columns}
    return config.feature_set.model_copy(update={"features": raw or config.features})


def _example_gen(config: Config, spans: tuple[SpanRef, ...], node_id: str) -> Any:
    return ExampleGen(spans_root=str(config.spans_path), spans=encode_spans(spans)).with_id(node_id)


def _statistics_gen(examples: Any, schema: BaseChannel, node_id: str) -> StatisticsGen:
    options = tfdv.StatsOptions(num_rank_histogram_buckets=RANK_HISTOGRAM_BUCKETS)
    return StatisticsGen(examples=examples.outputs["examples"], schema=schema, stats_options=options).with_id(node_id)


def _transform(config: Config, examples: BaseChannel, schema: BaseChannel) -> Transform:
    return Transform(
        examples=examples,
        schema=schema,
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
        base_model_digest=plan.champion.training_digest if plan.base_model_uri and plan.champion else None,
        checkpoint_dir=str(config.root_path / "checkpoints" / plan.digest[:16]),
    )
    return {
        REQUEST_KEY: request.model_dump_json(),
        PROVENANCE_KEY: {
            provenance.RUN_ID: plan.run_id,
            provenance.CONFIG_DIGEST: config.digest,
            provenance.CODE_DIGEST: code_digest,
            provenance.INITIALISATION: plan.initialisation,
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
        "champion": (plan.champion.model_uri if plan.champion else None, Model),
    }
    return {
        role: Importer(source_uri=uri, artifact_type=kind).with_id(role.replace("_", "-") + "-importer")
        for role, (uri, kind) in chosen.items()
        if uri is not None
    }
