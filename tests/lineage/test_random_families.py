"""Families of models by a seeded dice, read back from a store: what is read is what was written."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from lineage.graph import load_models
from lineage.queries import find_model, model_lineage, span_lineage
from schemas.spans import SpanRef

NUM_MODELS = 12
SPANS = range(1, 9)


@dataclass
class Member:
    """A model, and what it should be known to have come from."""

    artifact: Any
    direct: set[tuple[int, str]]
    base: "Member | None"
    version: int | None

    def ancestors(self) -> "list[Member]":
        return [self.base, *self.base.ancestors()] if self.base else []

    def learned(self) -> set[tuple[int, str, bool]]:
        inherited = {key for ancestor in self.ancestors() for key in ancestor.direct} - self.direct
        return {(*key, True) for key in self.direct} | {(*key, False) for key in inherited}


@pytest.fixture(scope="module", params=range(3))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def write_family(history: Any, make_ref: Callable[..., SpanRef], dice: random.Random) -> list[Member]:
    """Write models cold and warm, replayed or not, pushed, rejected or never judged; some attempts were killed."""
    family: list[Member] = []
    buffer, members = None, set[int]()
    for version in range(1, NUM_MODELS + 1):
        members = set(dice.sample(SPANS, 3))
        buffer = history.replay(buffer, **{f"s{span}": 5 for span in members})
        own = [make_ref(span) for span in dice.sample(SPANS, dice.randint(1, 2))]
        base, is_replayed = dice.choice([None, *family]), dice.random() < 0.5
        examples = history.examples(*own)
        if dice.random() < 0.3:
            history.run("Trainer", {"examples": [examples]}, {}, state=mlmd.Execution.FAILED)
        given = {"base": base.artifact} if base else {}
        model = history.train(examples, **given, **({"replay": buffer} if is_replayed else {}))
        fate = dice.choice(["pushed", "rejected", "never judged"])
        if fate != "never judged":
            history.judge(model, version=version if fate == "pushed" else None)
        direct = {(ref.span, ref.digest) for ref in own} | {(span, "d") for span in members if is_replayed}
        family.append(Member(model, direct, base, version if fate == "pushed" else None))
    return family


def test_what_is_read_is_what_was_written(
    make_history: Callable[[], Any], make_ref: Callable[..., SpanRef], seed: int
) -> None:
    history = make_history()
    family = write_family(history, make_ref, random.Random(seed))
    graph = history.graph()
    for member in family:
        answer = model_lineage(graph, graph.models[member.artifact.uri])
        assert {(ref.span, ref.digest, ref.direct) for ref in answer.spans} == member.learned()
        assert [base.uri for base in answer.base_models] == [base.artifact.uri for base in member.ancestors()]
        assert (answer.version, answer.unknown) == (member.version, ())
        if member.version is not None:
            part = load_models(history.store, evaluated=[member.version])
            assert model_lineage(part, find_model(part, member.version)) == answer
    for span in SPANS:
        expected = {
            (member.artifact.uri, digest, direct)
            for member in family
            for known, digest, direct in member.learned()
            if known == span
        }
        learners = span_lineage(load_models(history.store, evaluated=()), span).models
        assert {(learner.uri, learner.span_digest, learner.direct) for learner in learners} == expected
