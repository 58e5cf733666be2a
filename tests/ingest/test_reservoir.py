"""What is kept, in numbers: shares, corrections and the fairness of the lots. Order and grouping are in tests/laws."""

import numpy as np
import pytest

from ingest.reservoir import Reservoir, priorities_of
from schemas.spans import SpanRef

CHI_SQUARE_999 = 98.3  # 0.999 quantile of chi-square with 59 degrees of freedom


def ref(span: int, version: int = 1) -> SpanRef:
    return SpanRef(span=span, version=version, digest=f"{span}-{version}")


def offer(reservoir, span, num_examples, *, version=1, seed=0, labels=None):
    return reservoir.offer(
        ref(span, version),
        [f"{span}-{version}-{position}".encode() for position in range(num_examples)],
        labels or ["0"] * num_examples,
        priorities=priorities_of(seed, "train", span, num_examples),
    )


def test_all_is_kept_until_the_buffer_is_full():
    reservoir = offer(offer(Reservoir(), 1, 3), 2, 4).keep(10, "none")
    assert reservoir.members == {"1-1": 3, "2-1": 4}
    assert reservoir.num_seen == 7
    assert reservoir.examples["priority"].is_monotonic_increasing


def test_lowest_priorities_are_kept():
    priorities = np.array([5, 1, 9, 3], np.uint64)
    reservoir = Reservoir().offer(ref(1), [b"a", b"b", b"c", b"d"], ["0"] * 4, priorities=priorities).keep(2, "none")
    assert reservoir.examples["example"].tolist() == [b"b", b"d"]
    assert reservoir.examples["position"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("sizes", "capacity", "members"),
    [
        ([100, 100, 100], 30, [10, 10, 10]),
        ([100, 4, 100], 30, [13, 4, 13]),
        ([100, 100, 100], 31, [10, 10, 11]),
        ([2, 3, 4], 30, [2, 3, 4]),
        ([5, 5, 5], 0, []),
    ],
    ids=["equal", "small-span", "remainder-to-newest", "not-full", "none"],
)
def test_balanced_by_time_spans_share_equally(sizes, capacity, members):
    reservoir = Reservoir()
    for span, size in enumerate(sizes):
        reservoir = offer(reservoir, span, size).keep(capacity, "time")
    assert list(reservoir.members.values()) == members


def test_balanced_by_class_rare_labels_are_all_kept():
    labels = ["common"] * 90 + ["rare"] * 10
    reservoir = offer(Reservoir(), 1, 100, labels=labels).keep(40, "class")
    assert reservoir.examples["label"].value_counts().to_dict() == {"common": 30, "rare": 10}


def test_correction_takes_the_places_of_the_version_before():
    first = offer(offer(Reservoir(), 1, 50), 2, 50).keep(20, "none")
    corrected = offer(first, 1, 50, version=2).keep(20, "none")
    num_of_first = first.members["1-1"]
    assert corrected.members == {"1-2": num_of_first, "2-1": 20 - num_of_first}
    assert corrected.offered[1] == ref(1, version=2)
    assert corrected.num_seen == 150


@pytest.mark.parametrize("version", [1, 2], ids=["older", "same"])
def test_version_that_was_offered_or_corrected_before_changes_nothing(version):
    reservoir = offer(Reservoir(), 1, 5, version=2).keep(3, "time")
    assert offer(reservoir, 1, 5, version=version) is reservoir


def test_span_without_members_left_is_not_offered_again():
    reservoir = Reservoir()
    for span in range(4):
        reservoir = offer(reservoir, span, 10).keep(2, "time")
    assert reservoir.members == {"2-1": 1, "3-1": 1}
    assert [member.span for member in reservoir.spans] == [2, 3]
    assert offer(reservoir, 0, 10) is reservoir


def test_empty_span_is_remembered_as_offered():
    reservoir = offer(offer(Reservoir(), 1, 0), 2, 3).keep(5, "class")
    assert reservoir.members == {"2-1": 3}
    assert set(reservoir.offered) == {1, 2}


def test_every_example_is_kept_with_the_same_probability():
    sizes, capacity, num_seeds = (10, 20, 30), 12, 200
    kept = np.zeros((len(sizes), max(sizes)))
    for seed in range(num_seeds):
        reservoir = Reservoir()
        for span, size in enumerate(sizes):
            reservoir = offer(reservoir, span, size, seed=seed)
        examples = reservoir.keep(capacity, "none").examples
        kept[examples["span"], examples["position"]] += 1
    counts = np.concatenate([kept[span, :size] for span, size in enumerate(sizes)])
    probability = capacity / sum(sizes)
    # A fixed number is kept, so the counts are correlated; the factor makes the sum chi-square with n - 1 degrees.
    factor = (len(counts) - 1) / len(counts) / (num_seeds * probability * (1 - probability))
    statistic = factor * np.square(counts - num_seeds * probability).sum()
    assert counts.sum() == num_seeds * capacity
    assert statistic < CHI_SQUARE_999


def test_priorities_are_the_same_on_every_machine():
    assert priorities_of(0, "train", 1, 2).tolist() == [8848531238814698945, 15921687863205726840]


@pytest.mark.parametrize("other", [(1, "train", 7), (0, "eval", 7), (0, "train", 8)], ids=["seed", "split", "span"])
def test_priorities_depend_on_seed_split_and_span_and_not_on_how_many(other):
    base = priorities_of(0, "train", 7, 1000)
    np.testing.assert_array_equal(base[:10], priorities_of(0, "train", 7, 10))
    assert not set(base.tolist()) & set(priorities_of(*other, 1000).tolist())
    assert len(set(base.tolist())) == 1000
