"""The TFX DAG of one plan. It holds no resolver: all that the plan chose enters as parameters and importers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.components.common.importer import Importer
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import ExampleStatistics, Model, TransformGraph

from components.drift_gate import DriftGate
from components.evaluator import Evaluator
from components.example_gen import ExampleGen
from components.example_validator import ExampleValidator
from components.gate import Gate
from components.import_schema_gen import ImportSchemaGen
from components.prequential import Prequential
from components.pusher import Pusher
from components.replay_gen import ReplayGen
from components.statistics_gen import StatisticsGen
from components.trainer import Trainer
from components.transform import Transform
from lineage.store import connection_config
from pipeline.beam import beam_args
from pipeline.config import Config
from pipeline.evaluation import evaluation_config
from pipeline.plan import RunPlan
from pipeline.shape import GraphShape, Role, plan_values, shape_of, uri_parameter
from schemas import provenance
from schemas.artifacts import ReplayBuffer
from schemas.features import FeatureSet
from schemas.loader import feature_types, load_schema
from schemas.verdicts import Verdict

_TYPES: dict[Role, Any] = {
    "previous_statistics": ExampleStatistics,
    "reference_statistics": ExampleStatistics,
    "transform_graph": TransformGraph,
    "base_model": Model,
    "candidate": Model,
    "champion": Model,
    "replay": ReplayBuffer,
}


def build_pipeline(config: Config, plan: RunPlan, *, code_digest: str) -> Pipeline:
    """Return the DAG that does what `plan` says, and nothing else.

    Args:
        config: The pipeline's config.
        plan: What to read.
        code_digest: Digest of our sources, recorded on the model.
    """
    graph = build_graph(config, shape_of(config, plan), plan_values(config, plan, code_digest))
    graph.metadata_connection_config = connection_config(config.metadata_url)
    return graph


def build_graph(config: Config, shape: GraphShape, values: Mapping[str, Any]) -> Pipeline:
    """Return the DAG of a shape, which says nothing of ML Metadata: a package's tasks record themselves.

    Args:
        config: The pipeline's config.
        shape: Which nodes there are.
        values: What a plan chose, by the names in `shape.parameters`: constants, or TFX's runtime parameters.
    """
    graph = _Graph(config, shape, values)
    components = graph.judgement() if shape.name == "judgement" else graph.cycle()
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.artifacts_path),
        components=components,
        enable_cache=False,
        beam_pipeline_args=beam_args(config.beam),
    )


class _Graph:
    """The nodes of one shape; those that several others read are made once.

    Args:
        config: The pipeline's config.
        shape: Which nodes there are.
        values: What a plan chose.
    """

    def __init__(self, config: Config, shape: GraphShape, values: Mapping[str, Any]) -> None:
        self._config = config
        self._shape = shape
        self._values = values
        self._label = config.label.model_dump_json()
        self._importers = _importers(shape, values)
        self._span = self._example_gen("span", "ExampleGen")
        self._schema = ImportSchemaGen(schema_file=config.schema_file)

    def cycle(self) -> list[Any]:
        """Return the nodes of a cycle that reads a span and, unless it only scores, trains on it."""
        statistics = self._statistics_gen(self._examples, "StatisticsGen")
        validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=self._schema_channel)
        gate = DriftGate(
            statistics=statistics.outputs["statistics"],
            anomalies=validator.outputs["anomalies"],
            feature_set=_raw_feature_set(self._config).model_dump_json(),
            options=self._config.drift.model_dump_json(),
            **self._imported("previous_statistics", "reference_statistics"),
        )
        # A cold plan is the answer to `cold_start`; a warm plan stops there and is made again, cold.
        limit = Verdict.BLOCK if self._shape.is_cold else Verdict.COLD_START
        verdict = gate.outputs["verdict"].future()[0].custom_property(provenance.DRIFT_VERDICT)
        with Cond(verdict < int(limit)):
            guarded = self._guarded()
        return [self._span, statistics, self._schema, validator, *self._importers.values(), gate, *guarded]

    def judgement(self) -> list[Any]:
        """Return what judges a candidate that an earlier run trained against the champion of now."""
        candidate = self._importers["candidate"].outputs["result"]
        return [self._span, self._schema, *self._importers.values(), *self._judging(candidate, None)]

    @property
    def _examples(self) -> BaseChannel:
        return self._span.outputs["examples"]

    @property
    def _schema_channel(self) -> BaseChannel:
        return self._schema.outputs["schema"]

    def _imported(self, *roles: Role) -> dict[str, BaseChannel]:
        """Return those of the roles that the plan has something for."""
        return {role: self._importers[role].outputs["result"] for role in roles if role in self._importers}

    def _guarded(self) -> list[Any]:
        """Return what runs only on data that drift allows."""
        windows = [self._example_gen("window", "WindowExampleGen")] if self._shape.has_window else []
        window_examples = windows[0].outputs["examples"] if windows else self._examples
        nodes, score = self._before_training(window_examples)
        if self._shape.name == "score":
            return nodes
        transform_graph = self._imported("transform_graph").get("transform_graph")
        if transform_graph is None:
            analysis_nodes, transform_graph = self._analysis(window_examples)
            nodes += analysis_nodes
        trainer = Trainer(
            run_fn="trainer.run_fn.run_fn",
            examples=window_examples,
            transform_graph=transform_graph,
            schema=self._schema_channel,
            custom_config=self._values["trainer_config"],
            **self._imported("base_model"),
            **(self._imported("replay") if self._shape.is_replayed else {}),
        )
        return [*windows, *nodes, trainer, *self._judging(trainer.outputs["model"], score)]

    def _before_training(self, window_examples: BaseChannel) -> tuple[list[Any], BaseChannel | None]:
        """Return what uses a span's examples as they come: its score by the champion, and the replay buffer."""
        nodes: list[Any] = []
        score = None
        if self._shape.is_prequential:
            nodes.append(Prequential(examples=self._examples, label=self._label, **self._imported("champion")))
            score = nodes[0].outputs["score"]
        if self._shape.offers_replay:
            previous = self._imported("replay").get("replay")
            offered = ReplayGen(
                examples=self._examples if self._shape.name == "score" else window_examples,
                options=self._config.replay.model_dump_json(),
                label=self._label,
                seed=self._config.training.seed,
                **({"previous": previous} if previous else {}),
            )
            nodes.append(offered)
        return nodes, score

    def _analysis(self, window_examples: BaseChannel) -> tuple[list[Any], BaseChannel]:
        """Return what makes a new transform graph, and the graph; with a base model the graph grows from the base's."""
        nodes: list[Any] = []
        examples = {"span": self._examples, "window": window_examples}.get(str(self._shape.analysis))
        if examples is None:
            nodes.append(self._example_gen("analysis_window", "AnalysisExampleGen"))
            examples = nodes[0].outputs["examples"]
        if self._shape.analysis != "span":
            # The reference of later spans: what the new transform graph was analysed on.
            nodes.append(self._statistics_gen(examples, "WindowStatisticsGen"))
        base_model = self._imported("base_model").get("base_model")
        transform = _transform(self._config, examples, self._schema_channel, base_model)
        return [*nodes, transform], transform.outputs["transform_graph"]

    def _judging(self, model: BaseChannel, score: BaseChannel | None) -> list[Any]:
        config = self._config
        evaluator = Evaluator(
            examples=self._examples,
            model=model,
            schema=self._schema_channel,
            eval_config=evaluation_config(config.label, config.gate),
            label=self._label,
            engine=config.engine.model_dump_json(),
        )
        gate = Gate(
            evaluation=evaluator.outputs["evaluation"],
            model=model,
            examples=self._examples,
            options=config.gate.model_dump_json(),
            label=self._label,
            prequential_history=self._values["prequential_history"],
            is_warm=int(not self._shape.is_cold),
            **self._imported("champion", "replay"),
            **({"prequential": score} if score else {}),
        )
        pusher = Pusher(
            model=model,
            blessing=gate.outputs["blessing"],
            destination=str(config.serving_path),
            version=self._values["push_version"],
        )
        return [evaluator, gate, pusher]

    def _example_gen(self, parameter: str, node_id: str) -> Any:
        spans_root = str(self._config.spans_path)
        return ExampleGen(spans_root=spans_root, spans=self._values[parameter]).with_id(node_id)

    def _statistics_gen(self, examples: BaseChannel, node_id: str) -> Any:
        return StatisticsGen(
            examples=examples,
            schema=self._schema_channel,
            engine=self._config.engine.model_dump_json(),
            cache=str(self._config.statistics_path),
        ).with_id(node_id)


def _raw_feature_set(config: Config) -> FeatureSet:
    """Return the feature set without the features that only the user's `preprocessing_fn` makes: spans lack them."""
    columns = feature_types(load_schema(Path(config.schema_file)))
    raw = {name: spec for name, spec in config.features.items() if name in columns}
    return config.feature_set.model_copy(update={"features": raw or config.features})


def _transform(config: Config, examples: BaseChannel, schema: BaseChannel, base_model: BaseChannel | None) -> Transform:
    return Transform(
        examples=examples,
        schema=schema,
        feature_set=config.feature_set.model_dump_json(),
        engine=config.engine.model_dump_json(),
        base_model=base_model,
    )


def _importers(shape: GraphShape, values: Mapping[str, Any]) -> dict[str, Importer]:
    """Return importers of what the plan chose, by role. They stand outside the condition: KFP refuses them inside."""
    return {
        role: Importer(source_uri=values[uri_parameter(role)], artifact_type=_TYPES[role]).with_id(
            role.replace("_", "-") + "-importer"
        )
        for role in shape.imported
    }
