"""A warm start predicts what its base model predicted, whatever a refresh made of vocabularies and scalings."""

from collections.abc import Callable
from typing import Any

import farmhash
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.analysis import Analysis, NumericAnalysis, VocabularyAnalysis, token_bytes
from schemas.features import FeatureSet, VocabularyFeature
from schemas.training import ModelOptions, ModelShape, TrainingOptions
from schemas.transformed import PADDING_ID, model_inputs
from trainer.layers import MaskedMeanEmbedding
from trainer.model import build_model
from trainer.model_state import Array, Arrays, ModelState, assign_state, state_of
from trainer.warm_start import moved_state

TOLERANCE = 1e-5
NUM_EXAMPLES = 64
KINDS = ("linear", "dnn", "wide_deep", "dcn_v2", "custom")
LABELS: dict[str, dict[str, Any]] = {
    "binary": {"name": "late"},
    "multiclass": {"name": "outcome", "task": "multiclass", "classes": ["early", "on time", "late"]},
    "regression": {"name": "delay", "task": "regression"},
}
FEATURES: dict[str, Any] = {
    "wind": {"kind": "numeric", "missing_indicator": True},
    "carrier": {"kind": "vocabulary", "capacity": 6, "num_oov_buckets": 2, "embedding_dim": 3},
    "hour": {"kind": "cyclic", "period": 24},
    "tags": {"kind": "vocabulary", "capacity": 4, "multivalued": True, "max_values": 3, "embedding_dim": 2},
    "distance": {"kind": "bucketized", "num_buckets": 4},
    "temp": {"kind": "numeric"},
}
# As `schemas.analysis.token_text` writes tokens: the last has one backslash.
POOL = (*(f"token {index}" for index in range(12)), "Zürich", r"back\\slash")
RawBatch = dict[str, list[Any]]


def model_with_batch_normalization(inputs: dict[str, Any], feature_set: FeatureSet, options: ModelOptions) -> Any:
    """A user's model that keeps the convention: Keras' own embedding for one feature, wide rows for another."""
    rows = keras.layers.Embedding(8, 3, name="embedding_carrier")(keras.ops.maximum(inputs["carrier"], 0))
    carrier = keras.layers.Flatten()(rows) * keras.ops.cast(inputs["carrier"] >= 0, "float32")
    tags = MaskedMeanEmbedding(5, 2, name="wide_tags")(inputs["tags"])
    vectors = [carrier, tags, inputs["wind"], inputs["temp"]]
    joined = keras.layers.BatchNormalization(name="mine_norm")(keras.layers.Concatenate()(vectors))
    return keras.layers.Dense(4, activation="tanh", name="mine")(joined)


class Trained:
    """A model with the weights of a long training that nobody had to wait for."""

    def __init__(self, kind: str, task: str) -> None:
        function = f"{__name__}:model_with_batch_normalization" if kind == "custom" else None
        self.feature_set = FeatureSet.model_validate({"features": FEATURES, "label": LABELS[task]})
        options = TrainingOptions.model_validate(
            {"model": {"kind": kind, "hidden_units": (8, 4) if kind != "custom" else (), "function": function}}
        )
        self.shape = ModelShape(feature_set=self.feature_set, model=options.model)
        self.model = build_model(self.feature_set, options)
        self.fresh = state_of(self.model)

    def state(self, seed: int) -> ModelState:
        """Return random weights, so that no zero or one of an initial state hides a mistake."""
        random = np.random.default_rng(seed)
        return ModelState(
            {path: _trained(path, array, random) for path, array in self.fresh.weights.items()}, self.fresh.slots
        )

    def predict(self, state: ModelState, raw: RawBatch, analysis: Analysis) -> Array:
        """Return outputs, shape `(num_examples, units)`."""
        assign_state(self.model, state)
        return np.asarray(self.model(_transformed(self.feature_set, raw, analysis), training=False), np.float64)

    def moved(self, state: ModelState, base: Analysis, current: Analysis) -> ModelState:
        """Return the state of a warm start under the current analysis."""
        return moved_state(
            state,
            base_shape=self.shape,
            base_analysis=base,
            shape=self.shape,
            analysis=current,
            fresh=self.fresh,
        )


def _trained(path: str, array: Array, random: np.random.Generator) -> Array:
    if path.endswith(("variance", "gamma", "scale")):
        return random.uniform(0.5, 1.5, array.shape).astype(np.float32)
    spread = 0.5 / np.sqrt(array.shape[0]) if path.endswith("kernel") else 0.3
    return random.normal(0.0, spread, array.shape).astype(np.float32)


def _transformed(feature_set: FeatureSet, raw: RawBatch, analysis: Analysis) -> Arrays:
    """Do what the transform graph does, in float64 as it does."""
    batch = {}
    for item in model_inputs(feature_set):
        found, spec = analysis.features.get(item.name), feature_set.features.get(item.name)
        if isinstance(found, NumericAnalysis):
            known = np.nan_to_num(np.array(raw[item.name]), nan=found.missing_value, posinf=1e300, neginf=-1e300)
            batch[item.name] = (np.clip(known, found.low, found.high) - found.mean) / found.scale
        elif isinstance(found, VocabularyAnalysis) and isinstance(spec, VocabularyFeature):
            batch[item.name] = np.array([[_id(token, found, spec) for token in row] for row in raw[item.name]])
        else:
            batch[item.name] = np.array(raw[item.name])
    return {name: a.astype(np.float32 if a.dtype.kind == "f" else np.int64) for name, a in batch.items()}


def _id(token: str, found: VocabularyAnalysis, spec: VocabularyFeature) -> int:
    if token == "":
        return PADDING_ID
    if token in found.tokens:
        return found.tokens.index(token)
    return int(spec.capacity + farmhash.fingerprint64(token_bytes(token).decode()) % spec.num_oov_buckets)


def _raw_batch(seed: int, base: Analysis, current: Analysis) -> RawBatch:
    """Return examples with missing, absurd and unknown values; a token that was evicted is not among them."""
    random = np.random.default_rng(seed)
    wind = np.where(random.random((NUM_EXAMPLES, 1)) < 0.3, [[np.nan]], random.normal(3.0, 8.0, (NUM_EXAMPLES, 1)))
    temp = random.normal(-2.0, 3.0, (NUM_EXAMPLES, 1))
    temp[:6, 0] = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0]
    return {
        "wind": wind.tolist(),
        "wind_missing": np.isnan(wind).astype(np.float64).tolist(),
        "temp": temp.tolist(),
        "hour_sin": random.uniform(-1, 1, (NUM_EXAMPLES, 1)).tolist(),
        "hour_cos": random.uniform(-1, 1, (NUM_EXAMPLES, 1)).tolist(),
        "distance": random.integers(0, 5, (NUM_EXAMPLES, 1)).tolist(),
        "carrier": random.choice(_served("carrier", base, current), (NUM_EXAMPLES, 1)).tolist(),
        "tags": random.choice(_served("tags", base, current), (NUM_EXAMPLES, 3)).tolist(),
    }


def _served(name: str, base: Analysis, current: Analysis) -> list[str]:
    old, new = base.features[name], current.features[name]
    assert isinstance(old, VocabularyAnalysis)
    assert isinstance(new, VocabularyAnalysis)
    return ["", *(token for token in POOL if token in new.tokens or token not in old.tokens)]


@st.composite
def analyses(draw: st.DrawFn) -> tuple[Analysis, Analysis]:
    """Draw a base analysis and a refresh of it: grown, permuted, evicted vocabularies and other means and scales."""
    base: dict[str, Any] = {}
    current: dict[str, Any] = {}
    for name in ("carrier", "tags"):
        tokens = st.lists(st.sampled_from(POOL), unique=True, max_size=FEATURES[name]["capacity"])
        for features in (base, current):
            drawn = tuple(draw(tokens))
            features[name] = VocabularyAnalysis(tokens=drawn, counts=(1,) * len(drawn))
    for name in ("wind", "temp"):
        mean, scale = draw(st.floats(-10, 10)), draw(st.floats(0.5, 10))
        low, high = mean - 10 * scale, mean + 10 * scale
        base[name] = NumericAnalysis(mean=mean, scale=scale, missing_value=mean, low=low, high=high)
        shift, ratio = draw(st.floats(-3, 3)), draw(st.floats(0.2, 5))
        current[name] = base[name].model_copy(update={"mean": mean + shift * scale, "scale": ratio * scale})
    return Analysis(features=base), Analysis(features=current)


REFRESH = (
    Analysis(
        features={
            "carrier": VocabularyAnalysis(tokens=POOL[:5], counts=(1,) * 5),
            "tags": VocabularyAnalysis(tokens=POOL[:4], counts=(1,) * 4),
            "wind": NumericAnalysis(mean=0.0, scale=4.0, missing_value=0.0, low=-40.0, high=40.0),
            "temp": NumericAnalysis(mean=0.0, scale=2.0, missing_value=0.0, low=-20.0, high=20.0),
        }
    ),
    Analysis(
        features={
            "carrier": VocabularyAnalysis(tokens=POOL[5::-1], counts=(1,) * 6),
            "tags": VocabularyAnalysis(tokens=POOL[3::-1], counts=(1,) * 4),
            "wind": NumericAnalysis(mean=2.0, scale=5.0, missing_value=0.0, low=-40.0, high=40.0),
            "temp": NumericAnalysis(mean=1.0, scale=1.5, missing_value=0.0, low=-20.0, high=20.0),
        }
    ),
)


@pytest.fixture(scope="module")
def trained() -> Callable[[str, str], Trained]:
    """Build each model once."""
    made: dict[tuple[str, str], Trained] = {}

    def make(kind: str, task: str) -> Trained:
        if (kind, task) not in made:
            made[kind, task] = Trained(kind, task)
        return made[kind, task]

    return make


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(refresh=analyses(), seed=st.integers(0, 2**32 - 1))
def test_a_warm_start_predicts_what_its_base_model_predicted(
    kind: str, task: str, trained: Callable[[str, str], Trained], refresh: tuple[Analysis, Analysis], seed: int
) -> None:
    subject = trained(kind, task)
    state, raw = subject.state(seed), _raw_batch(seed, *refresh)
    expected = subject.predict(state, raw, refresh[0])
    received = subject.predict(subject.moved(state, *refresh), raw, refresh[1])
    scale = max(1.0, np.max(np.abs(expected)))
    assert np.max(np.abs(expected - received)) <= TOLERANCE * scale


@pytest.mark.parametrize("kind", KINDS)
def test_weights_copied_by_index_break_the_law(kind: str, trained: Callable[[str, str], Trained]) -> None:
    subject = trained(kind, "binary")
    state, raw = subject.state(0), _raw_batch(0, *REFRESH)
    expected = subject.predict(state, raw, REFRESH[0])
    assert np.max(np.abs(expected - subject.predict(subject.moved(state, *REFRESH), raw, REFRESH[1]))) <= TOLERANCE
    assert np.max(np.abs(expected - subject.predict(state, raw, REFRESH[1]))) > 1e-3
