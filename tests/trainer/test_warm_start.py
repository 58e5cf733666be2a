"""Slots follow their weights; what is new starts without effect; what weights cannot follow is refused."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from core.digests import digest_of_folder
from core.errors import TrainingError
from schemas.analysis import Analysis, NumericAnalysis, VocabularyAnalysis
from schemas.model_layout import KERAS_FILE, TRAINING_FOLDER
from schemas.training import FISHER_FILE, ModelShape, TrainerRequest, TrainingOptions
from schemas.transformed import IdInput, model_inputs
from trainer.export import write_training_folder
from trainer.layers import MaskedMeanEmbedding
from trainer.model import build_model
from trainer.model_state import Array, Arrays, ModelState, assign_state, slot_owner, state_of
from trainer.training_record import TRAINING_RECORD_FILE, TrainingRecord
from trainer.warm_start import BaseModel, carry_over, moved_state, read_base_model

KINDS = ("linear", "dnn", "wide_deep", "dcn_v2")
CARRIER = {"kind": "vocabulary", "capacity": 4, "num_oov_buckets": 1, "embedding_dim": 3}
FEATURES: dict[str, Any] = {"wind": {"kind": "numeric"}, "carrier": CARRIER, "temp": {"kind": "numeric"}}
ADDED: dict[str, Any] = {
    "hour": {"kind": "cyclic", "period": 24},
    "gust": {"kind": "numeric", "missing_indicator": True},
    "origin": {"kind": "vocabulary", "capacity": 2, "embedding_dim": 2},
}
CLASSES = ("early", "on time", "late")
NUM_EXAMPLES = 30


def ignore_convention(inputs: dict[str, Any], feature_set: Any, options: Any) -> Any:
    """A user's model whose embedding has a name of its own."""
    rows = keras.layers.Embedding(5, 2, name="my_carriers")(keras.ops.maximum(inputs["carrier"], 0))
    return keras.layers.Concatenate(name="mine")([keras.layers.Flatten(name="flat")(rows), inputs["wind"]])


def show_missing_as_the_first_token(inputs: dict[str, Any], feature_set: Any, options: Any) -> Any:
    """A user's model that has the name, and a missing value in a token's row."""
    rows = keras.layers.Embedding(5, 2, name="embedding_carrier")(keras.ops.maximum(inputs["carrier"], 0))
    return keras.layers.Flatten(name="flat")(rows)


def keep_the_convention(inputs: dict[str, Any], feature_set: Any, options: Any) -> Any:
    """A user's model that warm starts can carry over."""
    rows = MaskedMeanEmbedding(5, 2, name="embedding_carrier")(inputs["carrier"])
    return keras.layers.Concatenate(name="mine")([rows, inputs["wind"]])


def make_shape(features: Any = FEATURES, label: Any = None, **model: Any) -> ModelShape:
    """Return a small shape."""
    return ModelShape.model_validate(
        {
            "feature_set": {"features": features, "label": label or {"name": "late"}},
            "model": {"kind": "dnn", "hidden_units": (4,), **model},
        }
    )


def make_record(shape: ModelShape) -> TrainingRecord:
    """Return the record of a cold start."""
    options = TrainingOptions(model=shape.model)
    return TrainingRecord(
        request=TrainerRequest(
            feature_set=shape.feature_set, options=options, initialisation="cold", checkpoint_dir="none"
        ),
        num_examples=1,
        num_validation_examples=0,
        initialisation="cold",
        line_length=0,
        learning_rate=0.001,
        steps=1234,
        history=({"val_loss": 1.0},),
        best_epoch=0,
        seconds=1.0,
        transform_graph_digest="0",
    )


def multiclass(*classes: str) -> dict[str, Any]:
    """Return a label."""
    return {"name": "outcome", "task": "multiclass", "classes": classes}


def make_analysis(*tokens: str, mean: float = 0.0, scale: float = 1.0, low: float = -9.0) -> Analysis:
    """Return an analysis in which both numbers are scaled alike."""
    number = NumericAnalysis(mean=mean, scale=scale, missing_value=0.0, low=low, high=9.0)
    vocabulary = VocabularyAnalysis(tokens=tokens, counts=(1,) * len(tokens))
    return Analysis(features={"wind": number, "temp": number, "carrier": vocabulary})


@cache
def _built(shape: str) -> tuple[keras.Model, ModelState]:
    parsed = ModelShape.model_validate_json(shape)
    model = build_model(parsed.feature_set, TrainingOptions(model=parsed.model))
    return model, state_of(model)


def built(shape: ModelShape) -> keras.Model:
    """Return the one model of a shape; each test assigns the state that it needs."""
    return _built(shape.model_dump_json())[0]


def fresh_state(shape: ModelShape) -> ModelState:
    """Return the state in which the model was built."""
    return _built(shape.model_dump_json())[1]


def random_state(shape: ModelShape) -> ModelState:
    """Return a state in which every number differs from every other, slots and Fisher information too."""
    random, fresh = np.random.default_rng(0), fresh_state(shape)

    def drawn(arrays: Arrays) -> Arrays:
        return {path: random.uniform(0.1, 1.0, array.shape).astype(np.float32) for path, array in arrays.items()}

    slots = {**drawn(fresh.slots), "iteration": np.array(1234, fresh.slots["iteration"].dtype)}
    return ModelState(drawn(fresh.weights), slots, drawn(fresh.weights))


def move(base: ModelState, old: ModelShape, new: ModelShape, *analyses: Analysis) -> ModelState:
    """Return the moved state; without analyses, of an unchanged graph."""
    before, after = analyses or (make_analysis(*"abcd"), make_analysis(*"abcd"))
    return moved_state(base, base_shape=old, base_analysis=before, shape=new, analysis=after, fresh=fresh_state(new))


def make_batch(shape: ModelShape) -> Arrays:
    """Return transformed inputs; an input has the same values whatever other inputs there are."""
    batch = {}
    for item in model_inputs(shape.feature_set):
        random = np.random.default_rng(len(item.name))
        batch[item.name] = (
            random.integers(-1, item.cardinality, (NUM_EXAMPLES, 1))
            if isinstance(item, IdInput)
            else random.normal(size=(NUM_EXAMPLES, 1)).astype(np.float32)
        )
    return batch


def predict(shape: ModelShape, state: ModelState, batch: Arrays | None = None) -> Array:
    """Return outputs of a model in a state."""
    model = built(shape)
    assign_state(model, state)
    return np.asarray(model(make_batch(shape) if batch is None else batch, training=False), np.float64)


def slots_of(state: ModelState, kind: str) -> Arrays:
    """Return the slots of a kind by weight path."""
    owners = {slot: slot_owner(slot, state.weights) for slot in state.slots}
    return {owner: state.slots[slot] for slot, (owner, found) in owners.items() if found == kind}


def test_rows_of_weights_slots_and_fisher_move_with_their_tokens() -> None:
    shape = make_shape(kind="wide_deep")
    base = random_state(shape)
    # d is new and was served from the one bucket, row 4; b is evicted.
    moved = move(base, shape, shape, make_analysis("a", "b", "c"), make_analysis("c", "d", "a"))
    for path in ("embedding_carrier/embeddings", "wide_carrier/embeddings"):
        for before, after in (
            (base.weights, moved.weights),
            (slots_of(base, "momentum"), slots_of(moved, "momentum")),
            (slots_of(base, "velocity"), slots_of(moved, "velocity")),
            (base.fisher, moved.fisher),
        ):
            np.testing.assert_array_equal(after[path][[0, 1, 2, 4]], before[path][[2, 4, 0, 4]])
    assert int(moved.slots["iteration"]) == 1234
    np.testing.assert_array_equal(moved.weights["hidden_0/kernel"], base.weights["hidden_0/kernel"])


def test_a_state_moved_nowhere_is_the_same() -> None:
    shape = make_shape(kind="dcn_v2")
    base = random_state(shape)
    full = make_analysis("a", "b", "c", "d")
    moved = move(base, shape, shape, full, full)
    for before, after in ((base.weights, moved.weights), (base.slots, moved.slots), (base.fisher, moved.fisher)):
        assert before.keys() == after.keys()
        for path, array in before.items():
            np.testing.assert_array_equal(array, after[path], err_msg=path)
            assert after[path].dtype == array.dtype


def test_bucket_of_a_new_token_is_tensorflow_s_for_any_bytes() -> None:
    features = {"carrier": {**CARRIER, "num_oov_buckets": 3}}
    shape = make_shape(features)
    base = random_state(shape)
    texts, raw = (r"\xff", r"a\\b", "Zürich"), [b"\xff", rb"a\b", "Zürich".encode()]
    before, after = (
        Analysis(features={"carrier": VocabularyAnalysis(tokens=tokens, counts=(1,) * len(tokens))})
        for tokens in ((), texts)
    )
    moved = move(base, shape, shape, before, after)
    buckets = tf.strings.to_hash_bucket_fast(raw, 3).numpy()
    path = "embedding_carrier/embeddings"
    np.testing.assert_array_equal(moved.weights[path][:3], base.weights[path][4 + buckets])


def test_momenta_are_those_of_the_moved_parameters() -> None:
    """A momentum is a mean of gradients: moved gradients must be the gradients at the moved weights."""
    shape = make_shape(kind="wide_deep")
    before = make_analysis("a", "b", "c", "d", mean=1.0, scale=2.0)
    after = make_analysis("d", "c", "a", "b", mean=-0.5, scale=0.7)
    base, random = random_state(shape), np.random.default_rng(3)
    raw, ids = random.normal(size=(2, NUM_EXAMPLES, 1)), random.integers(0, 5, (NUM_EXAMPLES, 1))
    label = random.integers(0, 2, (NUM_EXAMPLES, 1)).astype(np.float32)

    def batch(analysis: Analysis, ids: Array) -> Arrays:
        number = analysis.features["wind"]
        assert isinstance(number, NumericAnalysis)
        wind, temp = ((raw - number.mean) / number.scale).astype(np.float32)
        return {"wind": wind, "temp": temp, "carrier": ids}

    old_gradients = _gradients(shape, base, batch(before, ids), label)
    slots = {
        slot: old_gradients[owner] if (owner := slot_owner(slot, base.weights)[0]) else array
        for slot, array in base.slots.items()
    }
    moved = move(ModelState(base.weights, slots), shape, shape, before, after)
    new_ids = np.array([2, 3, 1, 0, 4])[ids]  # a, b, c, d and the bucket
    expected = _gradients(shape, moved, batch(after, new_ids), label)
    received = slots_of(moved, "momentum")
    assert received.keys() == expected.keys()
    for path, gradient in expected.items():
        np.testing.assert_allclose(received[path], gradient, rtol=1e-3, atol=1e-6, err_msg=path)


def _gradients(shape: ModelShape, state: ModelState, batch: Arrays, label: Array) -> Arrays:
    model = built(shape)
    assign_state(model, state)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, y=label, y_pred=model(batch, training=False))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return {v.path: np.asarray(tf.convert_to_tensor(g)) for v, g in zip(variables, gradients, strict=True)}


@pytest.mark.parametrize("kind", ["velocity", "fisher"])
def test_squared_gradients_follow_a_change_of_scale_exactly(kind: str) -> None:
    shape = make_shape()
    base = random_state(shape)
    moved = move(base, shape, shape, make_analysis(scale=1.0), make_analysis(scale=2.0))
    before, after = ((s.fisher if kind == "fisher" else slots_of(s, kind)) for s in (base, moved))
    # z' = z / 2, so a gradient by `scale` halves and its square is a quarter.
    np.testing.assert_allclose(after["numeric_affine/scale"], before["numeric_affine/scale"] / 4, rtol=1e-6)
    np.testing.assert_array_equal(after["numeric_affine/offset"], before["numeric_affine/offset"])


def test_a_mean_that_moved_adds_the_offset_s_square() -> None:
    shape = make_shape()
    base = random_state(shape)
    moved = move(base, shape, shape, make_analysis(), make_analysis(mean=3.0))
    before, after = (slots_of(state, "velocity") for state in (base, moved))
    expected = before["numeric_affine/scale"] + 9.0 * before["numeric_affine/offset"]
    np.testing.assert_allclose(after["numeric_affine/scale"], expected, rtol=1e-6)


@pytest.mark.parametrize("hidden_units", [(4,), ()], ids=["hidden", "none hidden"])
@pytest.mark.parametrize("kind", KINDS)
def test_added_and_reordered_features_change_no_prediction(kind: str, hidden_units: tuple[int, ...]) -> None:
    old = make_shape(kind=kind, hidden_units=hidden_units)
    new = make_shape({**ADDED, **dict(reversed(FEATURES.items()))}, kind=kind, hidden_units=hidden_units)
    base = random_state(old)
    moved = move(base, old, new)
    np.testing.assert_allclose(predict(new, moved), predict(old, base), atol=1e-6)
    momenta = slots_of(moved, "momentum")
    assert momenta.keys() == {variable.path for variable in built(new).trainable_variables}
    kernel = moved.weights["wide/kernel" if kind == "linear" else "hidden_0/kernel" if hidden_units else "head/kernel"]
    np.testing.assert_array_equal(kernel[:4], 0.0)  # hour's sine and cosine, gust and its indicator


def test_added_feature_learns_from_the_first_step() -> None:
    old, new = make_shape(), make_shape({**FEATURES, **ADDED})
    moved = move(random_state(old), old, new)
    label = np.zeros((NUM_EXAMPLES, 1), np.float32)
    gradients = _gradients(new, moved, make_batch(new), label)
    assert np.all(np.any(gradients["hidden_0/kernel"] != 0.0, axis=1))


def test_first_number_and_first_category_of_a_model_start_without_effect() -> None:
    for one, all_kinds in (("carrier", "linear"), ("wind", "wide_deep")):
        old, new = make_shape({one: FEATURES[one]}, kind=all_kinds), make_shape({**FEATURES, **ADDED}, kind=all_kinds)
        base = random_state(old)
        np.testing.assert_allclose(predict(new, move(base, old, new)), predict(old, base), atol=1e-6)


def test_greater_capacity_keeps_every_token_and_bucket() -> None:
    old, new = make_shape(), make_shape({**FEATURES, "carrier": {**CARRIER, "capacity": 9}})
    base, batch = random_state(old), make_batch(old)
    moved = move(base, old, new, make_analysis(*"abcd"), make_analysis(*"abcde"))
    # Of the examples in the bucket, row 4, every other has the token e, now row 4; the bucket is row 9 now.
    is_unknown = (batch["carrier"] == 4) & (np.arange(NUM_EXAMPLES)[:, None] % 2 == 0)
    shifted = {**batch, "carrier": np.where(is_unknown, 9, batch["carrier"])}
    assert {4, 9} <= set(shifted["carrier"].ravel().tolist())
    np.testing.assert_allclose(predict(new, moved, shifted), predict(old, base, batch), atol=1e-6)


def test_an_extension_starts_without_effect_and_moves_like_the_rest() -> None:
    old, extended = make_shape(), make_shape(extension_units=(5,))
    base = random_state(old)
    np.testing.assert_allclose(predict(extended, move(base, old, extended)), predict(old, base), atol=1e-6)
    trained = random_state(extended)
    wider = make_shape({**ADDED, **FEATURES}, extension_units=(5,))
    np.testing.assert_allclose(predict(wider, move(trained, extended, wider)), predict(extended, trained), atol=1e-6)
    rows = move(trained, extended, extended, make_analysis("a", "b"), make_analysis("b", "a")).weights
    path = "extension_embedding_carrier/embeddings"
    np.testing.assert_array_equal(rows[path][:2], trained.weights[path][[1, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_class_is_improbable_and_leaves_the_ratios_of_the_others(kind: str) -> None:
    old = make_shape(label=multiclass(*CLASSES), kind=kind, extension_units=(3,))
    new = make_shape(label=multiclass(*CLASSES, "cancelled", "diverted"), kind=kind, extension_units=(3,))
    base = random_state(old)
    moved = move(base, old, new)
    before, after = predict(old, base), predict(new, moved)
    np.testing.assert_allclose(after[:, :3] / after[:, :1], before / before[:, :1], rtol=1e-4)
    assert np.all(after[:, 3:] <= 0.01 / 3 + 1e-6)
    assert np.all(after[:, 3:] > 0)
    head = "wide/bias" if kind == "linear" else "head/bias"
    np.testing.assert_array_equal(slots_of(moved, "momentum")[head][3:], 0.0)
    np.testing.assert_allclose(
        slots_of(moved, "velocity")[head][3:], slots_of(base, "velocity")[head].mean(), rtol=1e-6
    )
    np.testing.assert_array_equal(moved.fisher[head][3:], 0.0)


def test_frozen_layers_lose_and_thawed_layers_start_their_slots() -> None:
    shape = make_shape()
    base = random_state(shape)
    few = {slot: array for slot, array in base.slots.items() if "hidden_0" not in slot}
    moved = move(ModelState(base.weights, few), shape, shape)
    np.testing.assert_array_equal(slots_of(moved, "momentum")["hidden_0/kernel"], 0.0)
    np.testing.assert_array_equal(slots_of(moved, "momentum")["head/kernel"], slots_of(base, "momentum")["head/kernel"])


def test_changed_architecture_is_refused_with_the_reason() -> None:
    old, new = make_shape(), make_shape(hidden_units=(8,))
    with pytest.raises(TrainingError, match=r"The config changed.*model.hidden_units changed from \(4,\) to \(8,\)"):
        move(random_state(old), old, new)


def test_unexplained_shapes_are_refused_by_path() -> None:
    shape = make_shape()
    base = random_state(shape)
    weights = {**base.weights, "hidden_0/bias": np.zeros(3), "mine/kernel": np.zeros((1, 1))}
    match = r"2 weights differ.*'hidden_0/bias': \(\[3\], \[4\]\), 'mine/kernel': \(\[1, 1\], None\).*Plan a cold start"
    with pytest.raises(TrainingError, match=match):
        move(ModelState(weights, base.slots), shape, shape)


def test_more_tokens_than_capacity_are_refused() -> None:
    shape = make_shape()
    with pytest.raises(TrainingError, match=r"at most capacity=4 tokens of 'carrier'; received 5. Refresh"):
        move(random_state(shape), shape, shape, make_analysis("a"), make_analysis(*"abcde"))


def test_a_user_s_model_without_our_names_is_told_the_convention() -> None:
    shape = make_shape(kind="custom", function=f"{__name__}:ignore_convention")
    base = random_state(shape)
    match = r"vocabularies of \['carrier'\] changed.*'embedding_<feature>' or 'wide_<feature>'.*my_carriers/embeddings"
    with pytest.raises(TrainingError, match=match):
        move(base, shape, shape, make_analysis("a"), make_analysis("a", "b"))


def test_a_user_s_model_without_our_names_moves_while_vocabularies_stay() -> None:
    shape = make_shape(kind="custom", function=f"{__name__}:ignore_convention")
    base = random_state(shape)
    moved = move(base, shape, shape, make_analysis("a", scale=1.0), make_analysis("a", scale=2.0))
    np.testing.assert_array_equal(moved.weights["my_carriers/embeddings"], base.weights["my_carriers/embeddings"])
    np.testing.assert_allclose(moved.weights["numeric_affine/scale"], 2 * base.weights["numeric_affine/scale"])


def _carry_over_custom(function: str) -> None:
    shape = make_shape(kind="custom", function=f"{__name__}:{function}")
    base = BaseModel(random_state(shape), make_record(shape), make_analysis(*"abcd"))
    after = make_analysis(*"bcde", mean=0.5, scale=0.8)
    carry_over(built(shape), base, after, shape.feature_set, TrainingOptions(model=shape.model))


def test_a_user_s_model_is_put_to_the_test() -> None:
    _carry_over_custom("keep_the_convention")
    match = r"show_missing_as_the_first_token' does not predict what it did.*at most 0.001; received 0\.\d+.*id -1"
    with pytest.raises(TrainingError, match=match):
        _carry_over_custom("show_missing_as_the_first_token")


@pytest.fixture(scope="module")
def write_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a `Format-Training` folder of a model in a state."""

    def write(shape: ModelShape, state: ModelState, analysis: Analysis) -> Path:
        folder = tmp_path_factory.mktemp("base") / TRAINING_FOLDER
        model = built(shape)
        assign_state(model, state)
        write_training_folder(folder, model, make_record(shape), analysis, state.fisher)
        return folder

    return write


def test_a_model_on_disk_is_carried_over(write_base: Callable[..., Path]) -> None:
    shape = make_shape()
    before, after = make_analysis("a", "b"), make_analysis("a", "b", "c", mean=1.0, scale=2.0)
    state = random_state(shape)
    folder = write_base(shape, state, before)
    base = read_base_model(folder, digest_of_folder(folder))
    assert base.shape == shape
    assert base.analysis == before
    options = TrainingOptions(model=shape.model, learning_rate=0.5)
    model = build_model(shape.feature_set, options)
    moved = carry_over(model, base, after, shape.feature_set, options)
    assert int(model.optimizer.iterations) == 1234
    np.testing.assert_allclose(
        np.asarray(model.get_layer("numeric_affine").scale), 2 * state.weights["numeric_affine/scale"], rtol=1e-6
    )
    np.testing.assert_array_equal(
        moved.fisher["embedding_carrier/embeddings"][[0, 1, 2, 4]],
        state.fisher["embedding_carrier/embeddings"][[0, 1, 4, 4]],
    )


def test_a_graph_that_was_not_refreshed_from_the_base_model_s_is_refused(write_base: Callable[..., Path]) -> None:
    shape = make_shape()
    base = read_base_model(write_base(shape, random_state(shape), make_analysis("a", "b")), None)
    options = TrainingOptions(model=shape.model)
    with pytest.raises(TrainingError, match=r"does not fit the base model.*low was -9.0 and is -5.0"):
        carry_over(built(shape), base, make_analysis("a", "b", low=-5.0), shape.feature_set, options)


def test_an_exchanged_folder_is_refused(write_base: Callable[..., Path]) -> None:
    shape = make_shape()
    folder = write_base(shape, random_state(shape), make_analysis("a"))
    with pytest.raises(TrainingError, match=r"corrupted or was exchanged. Expected digest 00; received [0-9a-f]{64}"):
        read_base_model(folder, "00")


@pytest.mark.parametrize("file", [KERAS_FILE, TRAINING_RECORD_FILE, FISHER_FILE])
def test_a_corrupt_file_is_refused(file: str, write_base: Callable[..., Path]) -> None:
    shape = make_shape()
    folder = write_base(shape, random_state(shape), make_analysis("a"))
    (folder / file).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"The base model in .* is corrupted. Expected a readable training folder"):
        read_base_model(folder, None)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Expected digest 00; received no folder"):
        read_base_model(tmp_path / "nowhere", "00")
