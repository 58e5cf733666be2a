"""The two questions: what made this model, and what learned from this span. How it is stored is in `lineage.graph`."""

import json
import math
from pathlib import Path
from typing import Any

from core.errors import LineageError
from lineage.graph import Artifact, ModelGraph, ModelNode, SpanKey
from lineage.records import (
    BaseModelRef,
    Evaluation,
    Ingredient,
    LearnedSpan,
    Learner,
    ModelLineage,
    Replay,
    SpanLineage,
)
from schemas import provenance
from schemas.replay import MEMBERSHIP_FILE, Membership


def find_model(graph: ModelGraph, version: int) -> ModelNode:
    """Return the model that was pushed as `version`.

    Raises:
        LineageError: none was.
    """
    by_version = {node.version: node for node in graph.models.values() if node.version is not None}
    if version not in by_version:
        known = ", ".join(map(str, sorted(by_version))) or "none, since nothing was pushed yet"
        raise LineageError(
            f"ML Metadata knows no pushed model version {version}. Expected one of: {known}; received "
            f"version={version}. Look at `perennial status`."
        )
    return by_version[version]


def model_lineage(graph: ModelGraph, model: ModelNode) -> ModelLineage:
    """Return everything that made a model; what was not recorded is None and named in `unknown`."""
    ancestors = _ancestors(graph, model)
    text = model.artifact.text
    return ModelLineage(
        version=model.version,
        uri=model.uri,
        digest=model.digest,
        run_id=text(provenance.RUN_ID),
        created_at=model.artifact.created_at,
        initialisation=text(provenance.INITIALISATION),
        initialisation_why=text(provenance.INITIALISATION_WHY),
        regularisation=_json_object(text(provenance.REGULARISATION)),
        replay=_replay(model),
        spans=_learned_spans(model, ancestors),
        base_models=tuple(_base_model_ref(node) for node in ancestors),
        transform_graph=_ingredient(model, provenance.TRANSFORM_GRAPH_KEY, provenance.TRANSFORM_GRAPH_DIGEST),
        reviewed_schema=_ingredient(model, provenance.SCHEMA_KEY, provenance.SCHEMA_DIGEST),
        config=Ingredient(digest=text(provenance.CONFIG_DIGEST)),
        code=Ingredient(digest=text(provenance.CODE_DIGEST)),
        hyperparameters=_json_object(text(provenance.HYPERPARAMETERS)),
        evaluation=_evaluation(model),
        unknown=_unknown(graph, [model, *ancestors]),
        is_removed=model.artifact.is_removed,
    )


def span_lineage(graph: ModelGraph, span: int) -> SpanLineage:
    """Return every model that learned from any version of a span, directly or through warm starts."""
    keys = {key for model in graph.models.values() for key in model.spans or () if key.span == span}
    return SpanLineage(span=span, models=tuple(learner for key in sorted(keys) for learner in _learners(graph, key)))


def _ancestors(graph: ModelGraph, model: ModelNode) -> list[ModelNode]:
    """Return the chain of warm starts, nearest first, cut where it would come back to a model it has."""
    chain = [model]
    seen = {model.uri}
    while (base := graph.base_of(chain[-1])) and base.uri not in seen:
        chain.append(base)
        seen.add(base.uri)
    return chain[1:]


def _learned_spans(model: ModelNode, ancestors: list[ModelNode]) -> tuple[LearnedSpan, ...]:
    own: frozenset[SpanKey] = model.spans or frozenset()
    learned = own.union(*(ancestor.spans or () for ancestor in ancestors))
    return tuple(LearnedSpan(**key._asdict(), direct=key in own) for key in sorted(learned))


def _learners(graph: ModelGraph, key: SpanKey) -> list[Learner]:
    """Walk down from the models that trained on a span to all that started from them, each model once."""
    direct = {model.uri for model in graph.models.values() if key in (model.spans or ())}
    reached = set(direct)
    frontier = list(direct)
    while frontier:
        for child in graph.children.get(frontier.pop(), ()):
            if child.uri not in reached:
                reached.add(child.uri)
                frontier.append(child.uri)
    return [
        Learner(
            version=model.version,
            uri=model.uri,
            digest=model.digest,
            span_version=key.version,
            span_digest=key.digest,
            direct=model.uri in direct,
            is_removed=model.artifact.is_removed,
        )
        for model in graph.models.values()
        if model.uri in reached
    ]


def _base_model_ref(model: ModelNode) -> BaseModelRef:
    newest = max(model.spans).span if model.spans else None
    return BaseModelRef(
        version=model.version,
        uri=model.uri,
        digest=model.digest,
        span=newest,
        is_removed=model.artifact.is_removed,
    )


def _ingredient(model: ModelNode, key: str, digest_name: str) -> Ingredient:
    read = model.training.input(key) if model.training else None
    digest = model.artifact.text(digest_name)
    return Ingredient(uri=read.uri, digest=digest, is_removed=read.is_removed) if read else Ingredient(digest=digest)


def _evaluation(model: ModelNode) -> Evaluation | None:
    measured = model.evaluation.output(provenance.GATE_REPORT_KEY) if model.evaluation else None
    if measured is None or model.evaluation is None:
        return None
    blessing = model.evaluation.output(provenance.BLESSING_KEY)
    blessed = blessing.properties.get(provenance.BLESSED) if blessing else None
    metrics = _json_object(measured.text(provenance.EVALUATION_METRICS))
    return Evaluation(
        uri=measured.uri,
        # A metric of an empty slice is NaN, which is no JSON.
        metrics={
            name: value for name, value in metrics.items() if isinstance(value, float | int) and math.isfinite(value)
        },
        blessed=None if blessed is None else blessed == 1,
    )


def _replay(model: ModelNode) -> Replay | None:
    if model.replay is None:
        return None
    ratio = model.artifact.text(provenance.REPLAY_RATIO)
    return Replay(ratio=float(ratio) if ratio else None, members=_members(model.replay) or {})


def _members(replay: Artifact) -> dict[str, int] | None:
    """Return how many train examples of which span a buffer has, from its own file; None if that is gone."""
    try:
        text = (Path(replay.uri) / MEMBERSHIP_FILE).read_text(encoding="utf-8")
        return Membership.model_validate_json(text).members.get("train", {})
    except (OSError, ValueError):
        return None


def _json_object(text: str | None) -> dict[str, Any]:
    value = json.loads(text or "{}")
    return value if isinstance(value, dict) else {}


def _unknown(graph: ModelGraph, chain: list[ModelNode]) -> tuple[str, ...]:
    """Name what ML Metadata does not say about a model and its ancestors."""
    sentences = []
    for model in chain:
        if model.training is None:
            sentences.append(f"How model {model.uri} was trained is unknown: not recorded.")
        elif model.spans is None:
            sentences.append(f"Which spans trained model {model.uri} is unknown: not recorded.")
        if model.is_warm_started and graph.base_of(model) is None:
            sentences.append(f"Which model {model.uri} started from is unknown: not recorded.")
    if (replay := chain[0].replay) and _members(replay) is None:
        sentences.append(f"How many examples of each span were replayed is unknown: {replay.uri} cannot be read.")
    if base := graph.base_of(chain[-1]):
        sentences.append(
            f"What came before model {chain[-1].uri} is unknown: {base.uri} is recorded as its own ancestor."
        )
    return tuple(sentences)
