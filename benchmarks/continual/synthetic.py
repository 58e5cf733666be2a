"""Synthetic streams by River's generators, whose drifts are known, so that forgetting can be seen."""

from collections.abc import Iterator
from itertools import islice

import pandas as pd
from river.datasets import synth

from benchmarks.continual.streams import Stream
from schemas.features import FeatureSet
from schemas.training import ModelOptions, TrainingOptions

NUM_OLD_EXAMPLES = 2000
# Agrawal et al., Database Mining: A Performance Perspective, 1993, section 4.1: functions of the same features, by
# River's numbers: function 0 asks for the age alone, function 3 for the age and the level of education.
_CONCEPTS = (0, 3)
_OLD_SEED = 1_000_003
_PERTURBATION = 0.1  # share by which numbers are blurred, so that no model can be certain
_CATEGORIES = ("elevel", "car", "zipcode")
_NUMBERS = ("salary", "commission", "age", "hvalue", "hyears", "loan")
LABEL = "label"
TRAINING = TrainingOptions(
    model=ModelOptions(hidden_units=(32, 16)),
    batch_size=64,
    epochs_cold=4,
    epochs_warm=1,
    learning_rate=3e-3,
    learning_rate_policy="constant",
)
Examples = Iterator[tuple[dict[str, float], int]]


def synthetic_streams(seed: int, *, num_spans: int = 40, span_size: int = 1000) -> tuple[Stream, ...]:
    """Return one stream per kind of drift, each with drifts at known spans; other seeds give other examples.

    Args:
        seed: Seed of River's generators.
        num_spans: Spans of each stream; drifts scale with it.
        span_size: Examples of a span.
    """
    middle, period = num_spans // 2, num_spans // 5
    changes = tuple(range(2 * period, num_spans, period))
    news = ["back to the first concept" if index % 2 else "the second concept" for index in range(len(changes))]
    # River's sigmoid overflows where a change is much shorter than the stream before it.
    widths = {"abrupt": span_size // 5, "gradual": period * span_size}
    drifting = {
        name: iter(
            synth.ConceptDriftStream(
                _generator(0, seed), _generator(1, seed), position=middle * span_size, width=width, seed=seed
            )
        )
        for name, width in widths.items()
    }
    plans = (
        ("abrupt", drifting["abrupt"], ((middle, "the second concept"),)),
        ("gradual", drifting["gradual"], ((middle - period // 2, "half way"), (middle + period // 2, "all but over"))),
        ("recurring", _recurring(seed, changes, period * span_size), tuple(zip(changes, news, strict=True))),
    )
    old = _frame(iter(_generator(0, seed + _OLD_SEED)), NUM_OLD_EXAMPLES)
    return tuple(
        Stream(
            name=name,
            feature_set=_feature_set(),
            spans=tuple(_frame(examples, span_size) for _ in range(num_spans)),
            training=TRAINING,
            drifts=drifts,
            old=old,
        )
        for name, examples, drifts in plans
    )


def _generator(concept: int, seed: int) -> synth.Agrawal:
    # Seeds of their own, or the two concepts would come with the same features.
    return synth.Agrawal(_CONCEPTS[concept], 2 * seed + concept, perturbation=_PERTURBATION)


def _recurring(seed: int, changes: tuple[int, ...], period: int) -> Examples:
    """Yield the first concept for two periods of so many examples, then the other concept in each period."""
    generators = [iter(_generator(concept, seed)) for concept in (0, 1)]
    yield from islice(generators[0], 2 * period)
    for index in range(len(changes)):
        yield from islice(generators[(index + 1) % 2], period)


def _frame(examples: Examples, num_examples: int) -> pd.DataFrame:
    frame = pd.DataFrame([{**features, LABEL: label} for features, label in islice(examples, num_examples)])
    return frame.astype({**dict.fromkeys(_CATEGORIES, str), **dict.fromkeys(_NUMBERS, float), LABEL: "float32"})


def _feature_set() -> FeatureSet:
    numbers = {name: {"kind": "numeric"} for name in _NUMBERS}
    categories = {name: {"kind": "vocabulary", "capacity": 30, "embedding_dim": 4} for name in _CATEGORIES}
    return FeatureSet.model_validate({"features": numbers | categories, "label": {"name": LABEL}})
