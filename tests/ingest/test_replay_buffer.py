"""The buffer on disk: what comes back, the same bytes twice, and what a damaged one says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.digests import digest_of_folder
from core.errors import DataError
from ingest.replay_buffer import read_replay, read_reservoir, update_buffer
from schemas.replay import MEMBERSHIP_FILE, REPLAY_EXAMPLES_FILE, REPLAY_INDEX_FILE, Membership, ReplayOptions
from schemas.spans import SPAN_FILE_NAME, SPLITS, SpanRef

OPTIONS = ReplayOptions(train_examples=10, eval_examples=4, balance="time")
NUM_EXAMPLES = {"train": 12, "eval": 6}


def example(span: int, position: int, *, split: str = "train", label: bytes | int | float | None = 0) -> bytes:
    proto = tf.train.Example()
    proto.features.feature["name"].bytes_list.value.append(f"{split}-{span}-{position}".encode())
    kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}.get(type(label))
    if kind:
        getattr(proto.features.feature["late"], kind).value.append(label)
    return bytes(proto.SerializeToString(deterministic=True))


def write(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)


def ref(span: int, version: int = 1) -> SpanRef:
    return SpanRef(span=span, version=version, digest=f"{span}-{version}")


@pytest.fixture
def add_span(tmp_path):
    """Put a span, in two files a split, into the one Examples folder of the test."""

    def add(span, label=0):
        for split, num_examples in NUM_EXAMPLES.items():
            records = [example(span, position, split=split, label=label) for position in range(num_examples)]
            half = num_examples // 2
            for number, shard in enumerate((records[:half], records[half:])):
                name = SPAN_FILE_NAME.format(span=span, name=f"examples-{number}.tfrecord.gz")
                write(tmp_path / "examples" / f"Split-{split}" / name, shard)

    return add


@pytest.fixture
def update(tmp_path):
    def update(name, *refs, previous=None, options=OPTIONS, seed=0):
        target = tmp_path / name
        membership, *changes = update_buffer(
            previous, tmp_path / "examples", target, spans=refs, options=options, label="late", seed=seed
        )
        assert Membership.model_validate_json((target / MEMBERSHIP_FILE).read_text()) == membership
        return target, membership, *changes

    return update


def test_members_are_examples_of_their_span_and_split(add_span, update):
    add_span(3)
    add_span(5)
    buffer, membership, joined, left = update("buffer", ref(3), ref(5))
    assert membership.members == {"train": {"3-1": 5, "5-1": 5}, "eval": {"3-1": 2, "5-1": 2}}
    assert membership.num_seen == {"train": 24, "eval": 12}
    assert (joined, left) == ((ref(3), ref(5)), ())
    for split in SPLITS:
        records, of_span = read_replay(buffer, split)
        offered = {span: {example(span, n, split=split) for n in range(NUM_EXAMPLES[split])} for span in (3, 5)}
        assert len(set(records)) == len(records) == sum(membership.members[split].values())
        assert all(record in offered[span] for record, span in zip(records, of_span.tolist(), strict=True))


def test_window_at_once_equals_span_by_span(add_span, update):
    for span in (1, 2, 3):
        add_span(span)
    at_once, membership, *changes = update("at-once", ref(1), ref(2), ref(3))
    first, *_ = update("first", ref(1))
    second, *_ = update("second", ref(2), ref(1), previous=first)
    third, membership_of_third, *changes_of_third = update("third", ref(3), previous=second)
    assert membership_of_third == membership
    assert (changes, changes_of_third) == ([(ref(1), ref(2), ref(3)), ()], [(ref(3),), ()])
    for split in SPLITS:
        assert read_replay(third, split)[0] == read_replay(at_once, split)[0]


def test_same_update_gives_the_same_bytes_and_leaves_the_previous_buffer_alone(add_span, update):
    add_span(1)
    add_span(2)
    first, *_ = update("first", ref(1))
    before = digest_of_folder(first)
    digests = {digest_of_folder(update(name, ref(2), previous=first)[0]) for name in ("second", "again")}
    assert len(digests) == 1
    assert digest_of_folder(first) == before


def test_buffer_that_the_config_makes_smaller_shrinks(add_span, update):
    add_span(1)
    first, *_ = update("first", ref(1))
    options = ReplayOptions(train_examples=3, eval_examples=4)
    smaller, membership, *_ = update("smaller", ref(1), previous=first, options=options)
    assert membership.members == {"train": {"1-1": 3}, "eval": {"1-1": 4}}
    assert read_replay(smaller, "train")[0] == read_replay(first, "train")[0][:3]


def test_another_seed_is_another_sample(add_span, update):
    add_span(1)
    samples = [read_replay(update(f"seed-{seed}", ref(1), seed=seed)[0], "train")[0] for seed in (0, 1)]
    assert set(samples[0]) != set(samples[1])


def test_index_needs_no_pickle_and_is_in_the_order_of_the_records(add_span, update):
    add_span(7)
    buffer, *_ = update("buffer", ref(7, version=3))
    with np.load(buffer / REPLAY_INDEX_FILE.format(split="train"), allow_pickle=False) as index:
        assert index["priority"].dtype == np.uint64
        assert index["version"].tolist() == [3] * 10
        assert index["label"].tolist() == ["0"] * 10
        names = [f"train-7-{position}" for position in index["position"]]
    records, _ = read_replay(buffer, "train")
    features = [tf.train.Example.FromString(record).features.feature for record in records]
    assert [feature["name"].bytes_list.value[0].decode() for feature in features] == names


def test_split_that_is_not_kept_is_there_and_empty(add_span, update):
    add_span(1)
    options = ReplayOptions(train_examples=0, eval_examples=2)
    buffer, membership, *_ = update("buffer", ref(1), options=options)
    assert membership.members == {"train": {}, "eval": {"1-1": 2}}
    assert read_replay(buffer, "train")[0] == []
    assert update("next", ref(1), previous=buffer, options=options)[1] == membership


@pytest.mark.parametrize(
    ("label", "text"), [(b"late", "late"), (1, "1"), (0.5, "0.5")], ids=["text", "integer", "number"]
)
def test_label_of_any_type_is_kept_as_text(add_span, update, label, text):
    add_span(1, label)
    buffer, *_ = update("buffer", ref(1))
    assert set(read_reservoir(buffer, "train").examples["label"]) == {text}


def test_record_without_label_is_refused(add_span, update):
    add_span(1, None)
    with pytest.raises(DataError, match=r"A record has 0 values of label 'late'\. Expected exactly one"):
        update("buffer", ref(1))


def test_span_without_files_is_refused(add_span, update):
    add_span(1)
    with pytest.raises(DataError, match=r"Span 2 has no files in .*Expected Split-train/span-000002-\*"):
        update("buffer", ref(1), ref(2))


def _remove_index(path):
    path.unlink()


def _cut_index(path):
    path.write_bytes(path.read_bytes()[:-30])


def _index_of_other_examples(path):
    with np.load(path) as index:
        columns = {name: index[name] for name in index.files}
    np.savez(path, **{**columns, "span": columns["span"][1:]})


@pytest.mark.parametrize("damage", [_remove_index, _cut_index, _index_of_other_examples])
def test_damaged_index_is_a_data_error(add_span, update, tmp_path, damage):
    add_span(1)
    buffer, *_ = update("buffer", ref(1))
    damaged = tmp_path / "damaged"
    shutil.copytree(buffer, damaged)
    damage(damaged / REPLAY_INDEX_FILE.format(split="eval"))
    with pytest.raises(DataError, match=r"Replay buffer .*cannot be read: .*its 4 eval examples in 'index\.npz'"):
        read_replay(damaged, "eval")


def test_damaged_examples_are_a_data_error(add_span, update):
    add_span(1)
    buffer, *_ = update("buffer", ref(1))
    path = buffer / REPLAY_EXAMPLES_FILE.format(split="train")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"examples\.tfrecord\.gz.*cannot be read"):
        read_replay(buffer, "train")
