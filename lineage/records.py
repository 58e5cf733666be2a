"""The answers to lineage questions, as documents: what `perennial lineage --json` prints."""

from typing import Any

from pydantic import AwareDatetime, Field

from schemas.base import Record
from schemas.spans import SpanRef


class Ingredient(Record):
    """Something a model was made with; None for what was not recorded.

    Attributes:
        is_removed: Its files are gone: garbage collection removed them.
    """

    uri: str | None = None
    digest: str | None = None
    is_removed: bool = False


class LearnedSpan(SpanRef):
    """A span that a model learned from, itself (`direct`) or through a model it started from."""

    direct: bool


class BaseModelRef(Record):
    """One model in the chain of warm starts.

    Attributes:
        version: Version it was pushed as; None if it never was.
        span: Newest span that it trained on itself; None if not recorded.
        is_removed: Its files are gone: garbage collection removed them.
    """

    version: int | None
    uri: str | None
    digest: str | None
    span: int | None
    is_removed: bool = False


class Evaluation(Record):
    """What the gate measured and said.

    Attributes:
        uri: The gate's report.
        metrics: Overall metrics by name.
        blessed: Whether the gate let it pass; None if that was not recorded.
    """

    uri: str
    metrics: dict[str, float]
    blessed: bool | None


class Replay(Record):
    """Past examples that a model was trained on again.

    Attributes:
        ratio: Past examples per new one; None if that was not recorded.
        members: How many examples of which span were in the buffer, by `span-version`; empty once its files are gone.
    """

    ratio: float | None
    members: dict[str, int]


class ModelLineage(Record):
    """Everything that made one model.

    Attributes:
        version: Version it was pushed as; None if it never was.
        spans: Every span it learned from, oldest first.
        base_models: Models it descends from by warm starts, nearest first.
        hyperparameters: Training options as the Trainer received them.
        initialisation: `cold`, `warm` or `shrink_perturb`.
        initialisation_why: Why, where a probe chose it.
        regularisation: Strengths of the terms that held it near its base, those that were on.
        replay: None if it was trained without a replay buffer.
        unknown: One sentence for each thing that ML Metadata does not say.
        is_removed: Its files are gone: garbage collection removed them.
    """

    version: int | None
    uri: str
    digest: str | None
    run_id: str | None
    created_at: AwareDatetime
    initialisation: str | None
    initialisation_why: str | None
    regularisation: dict[str, Any]
    replay: Replay | None
    spans: tuple[LearnedSpan, ...]
    base_models: tuple[BaseModelRef, ...]
    transform_graph: Ingredient
    # pydantic has a method of that name.
    reviewed_schema: Ingredient = Field(serialization_alias="schema")
    config: Ingredient
    code: Ingredient
    hyperparameters: dict[str, Any]
    evaluation: Evaluation | None
    unknown: tuple[str, ...]
    is_removed: bool = False


class Learner(Record):
    """A model that learned from one version of a span, itself (`direct`) or through a model it started from.

    Attributes:
        is_removed: Its files are gone: garbage collection removed them.
    """

    version: int | None
    uri: str
    digest: str | None
    span_version: int
    span_digest: str
    direct: bool
    is_removed: bool = False


class SpanLineage(Record):
    """Every model, pushed or not, that learned from a span; oldest model first within a version of the span."""

    span: int
    models: tuple[Learner, ...]
