"""Which nodes the DAG of a plan has, and what of the plan is a mere value of it.

Two plans of one shape differ in values only. A local run gets them as constants; a package for Kubeflow Pipelines is
compiled once a shape, and gets them as runtime parameters.
"""

import json
from typing import Literal

from pipeline.config import Config
from pipeline.plan import RunPlan
from schemas import provenance
from schemas.base import Record
from schemas.provenance import encode_spans
from schemas.training import PROVENANCE_KEY, REQUEST_KEY, TrainerRequest

ShapeName = Literal["cold", "warm", "refresh", "score", "judgement"]
# What a plan may choose of what earlier runs made, in the order of the graph.
Role = Literal[
    "previous_statistics",
    "reference_statistics",
    "transform_graph",
    "base_model",
    "candidate",
    "champion",
    "replay",
]
INT_PARAMETERS = frozenset({"push_version"})


class GraphShape(Record):
    """What a plan decides about the nodes of its DAG and how they are joined.

    Attributes:
        name: The kind of cycle, for people and for names of packages.
        is_cold: The candidate starts, or started, from nothing.
        imported: What is imported of earlier runs.
        has_window: The training window is more than the span itself.
        analysis: What a new transform graph is analysed on: the span, the window, a window of its own, or nothing,
            because the graph is frozen.
        is_prequential: The champion is scored on the span first.
        offers_replay: The span's examples are offered to the replay buffer.
        is_replayed: The Trainer mixes in the replay buffer.
    """

    name: ShapeName
    is_cold: bool
    imported: tuple[Role, ...]
    has_window: bool = False
    analysis: Literal["span", "window", "own"] | None = None
    is_prequential: bool = False
    offers_replay: bool = False
    is_replayed: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the values that the DAG takes; those in `INT_PARAMETERS` are integers, the others text."""
        trains = self.name not in ("score", "judgement")
        takes = {
            "run_id": True,
            "code_digest": True,
            "span": True,
            "window": self.has_window,
            "analysis_window": self.analysis == "own",
            "trainer_config": trains,
            "prequential_history": self.name != "score",
            "push_version": self.name != "score",
        }
        return (*(name for name, is_taken in takes.items() if is_taken), *map(uri_parameter, self.imported))


def uri_parameter(role: Role) -> str:
    """Return the name of the value that says where something imported lies."""
    return f"{role}_uri"


def shape_of(config: Config, plan: RunPlan) -> GraphShape:
    """Return the shape of a plan's DAG."""
    is_cold = plan.initialisation == "cold"
    if plan.candidate_uri is not None:
        imported = _imported(plan, ("candidate", "champion", "replay"))
        return GraphShape(name="judgement", is_cold=is_cold, imported=imported)
    # A shadow model's spans were offered to the buffer by the cycles before it.
    offers_replay = _has_buffer(config) and not plan.is_shadow
    if plan.action == "score":
        roles: tuple[Role, ...] = ("previous_statistics", "reference_statistics", "champion", "replay")
        return GraphShape(
            name="score",
            is_cold=is_cold,
            imported=_imported(plan, roles),
            is_prequential=plan.is_prequential,
            offers_replay=offers_replay,
        )
    analysis = _analysis(plan)
    roles = ("previous_statistics", "reference_statistics", "transform_graph", "base_model", "champion", "replay")
    return GraphShape(
        name="cold" if is_cold else "warm" if analysis is None else "refresh",
        is_cold=is_cold,
        imported=_imported(plan, roles),
        has_window=plan.window != (plan.span,),
        analysis=analysis,
        is_prequential=plan.is_prequential,
        offers_replay=offers_replay,
        is_replayed=plan.replay_uri is not None and not is_cold and config.training.replay_ratio > 0,
    )


def typical_shape(config: Config, name: ShapeName) -> GraphShape:
    """Return the shape of the usual cycle of that name, for packages that are compiled before there is a plan."""
    is_cold, has_buffer = name == "cold", _has_buffer(config)
    replay: tuple[Role, ...] = ("replay",) if has_buffer else ()
    statistics: tuple[Role, ...] = ("previous_statistics", "reference_statistics")
    if name == "judgement":
        return GraphShape(name=name, is_cold=False, imported=("candidate", "champion", *replay))
    if name == "score":
        imported = (*statistics, "champion", *replay)
        return GraphShape(name=name, is_cold=False, imported=imported, is_prequential=True, offers_replay=has_buffer)
    if is_cold:
        has_window = config.window.cold_spans > 1
        return GraphShape(
            name=name,
            is_cold=True,
            imported=(),
            has_window=has_window,
            analysis="window" if has_window else "span",
            offers_replay=has_buffer,
        )
    graph: tuple[Role, ...] = ("transform_graph",) if name == "warm" else ()
    return GraphShape(
        name=name,
        is_cold=False,
        imported=(*statistics, *graph, "base_model", "champion", *replay),
        has_window=config.window.warm_spans > 1,
        analysis=None if name == "warm" else "own",
        is_prequential=True,
        offers_replay=has_buffer,
        is_replayed=has_buffer and config.training.replay_ratio > 0,
    )


def plan_values(config: Config, plan: RunPlan, code_digest: str) -> dict[str, str | int]:
    """Return what the DAG of a plan takes, by the names in `GraphShape.parameters`.

    Args:
        config: The pipeline's config.
        plan: The plan.
        code_digest: Digest of our sources, recorded on the model.
    """
    values: dict[str, str | int | None] = {
        "run_id": plan.run_id,
        "code_digest": code_digest,
        "span": encode_spans((plan.span,)),
        "window": encode_spans(plan.window),
        "analysis_window": encode_spans(plan.analysis_window),
        "trainer_config": json.dumps(_trainer_config(config, plan, code_digest)),
        "prequential_history": json.dumps([earlier.model_dump() for earlier in plan.prequential_history]),
        "push_version": plan.push_version,
        **{uri_parameter(role): uri for role, uri in imported_uris(plan).items()},
    }
    return {name: value for name in shape_of(config, plan).parameters if (value := values[name]) is not None}


def imported_uris(plan: RunPlan) -> dict[Role, str | None]:
    """Return where everything lies that a plan imports of earlier runs; None where it chose nothing."""
    return {
        "previous_statistics": plan.previous_statistics_uri,
        "reference_statistics": plan.reference_statistics_uri,
        "transform_graph": plan.transform_graph_uri,
        "base_model": plan.base_model_uri,
        "candidate": plan.candidate_uri,
        "champion": plan.champion.model_uri if plan.champion else None,
        "replay": plan.replay_uri,
    }


def _imported(plan: RunPlan, roles: tuple[Role, ...]) -> tuple[Role, ...]:
    uris = imported_uris(plan)
    return tuple(role for role in roles if uris[role] is not None)


def _analysis(plan: RunPlan) -> Literal["span", "window", "own"] | None:
    if plan.transform_graph_uri is not None:
        return None
    if plan.analysis_window == (plan.span,):
        return "span"
    return "window" if plan.analysis_window == plan.window else "own"


def _has_buffer(config: Config) -> bool:
    return bool(config.replay.train_examples or config.replay.eval_examples)


def _trainer_config(config: Config, plan: RunPlan, code_digest: str) -> dict[str, object]:
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
