"""Laws of the reservoir: order and grouping of updates change nothing, and it equals dealing all examples at once."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.reservoir import Reservoir, priorities_of
from schemas.spans import SpanRef

# Spans as the labels of their examples.
SPANS = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), min_size=1, max_size=5)
CAPACITY = st.integers(0, 25)
BALANCES = ("none", "time", "class")
LAW = settings(max_examples=25, deadline=None, derandomize=True)


def offer(reservoir, span, labels, *, version=1):
    return reservoir.offer(
        SpanRef(span=span, version=version, digest=f"{span}-{version}"),
        [f"{span}-{version}-{position}".encode() for position in range(len(labels))],
        labels,
        priorities=priorities_of(0, "train", span, len(labels)),
    )


def kept(reservoir):
    return reservoir.examples["example"].tolist()


def dealt(spans, capacity, balance, *, version=1):
    """Deal the places out one by one: round after round, each stratum gets its next lowest priority."""
    strata = defaultdict(list)
    for span, labels in enumerate(spans):
        priorities = priorities_of(0, "train", span, len(labels)).tolist()
        for position, (label, priority) in enumerate(zip(labels, priorities, strict=True)):
            stratum = {"none": 0, "time": -span, "class": label}[balance]
            strata[stratum].append((priority, f"{span}-{version}-{position}".encode()))
    hands = [sorted(strata[stratum]) for stratum in sorted(strata)]
    rounds = range(max(map(len, hands), default=0))
    order = [hand[number] for number in rounds for hand in hands if number < len(hand)]
    return [example for _, example in sorted(order[:capacity])]


@pytest.mark.parametrize("balance", BALANCES)
@LAW
@given(spans=SPANS, capacity=CAPACITY, data=st.data())
def test_any_order_and_grouping_equals_dealing_out_all_at_once(balance, spans, capacity, data):
    order = data.draw(st.permutations(range(len(spans))))
    is_end_of_update = data.draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans)))
    reservoir = Reservoir()
    for span, is_end in zip(order, is_end_of_update, strict=True):
        reservoir = offer(reservoir, span, spans[span])
        if is_end:
            reservoir = reservoir.keep(capacity, balance)
    reservoir = reservoir.keep(capacity, balance)
    assert kept(reservoir) == dealt(spans, capacity, balance)
    assert reservoir.num_seen == sum(map(len, spans))


@pytest.mark.parametrize("balance", BALANCES)
@LAW
@given(spans=SPANS, capacity=CAPACITY, data=st.data())
def test_offering_again_changes_nothing(balance, spans, capacity, data):
    reservoir = Reservoir()
    for span, labels in enumerate(spans):
        reservoir = offer(reservoir, span, labels).keep(capacity, balance)
    again = reservoir
    for span in data.draw(st.permutations(range(len(spans)))):
        again = offer(again, span, spans[span]).keep(capacity, balance)
    assert kept(again) == kept(reservoir)
    assert again.members == reservoir.members
    assert again.num_seen == reservoir.num_seen


@pytest.mark.parametrize("balance", ["none", "time"])
@LAW
@given(spans=SPANS, capacity=CAPACITY, data=st.data())
def test_corrections_of_the_same_length_equal_having_known_them_from_the_start(balance, spans, capacity, data):
    reservoir = Reservoir()
    for span, labels in enumerate(spans):
        reservoir = offer(reservoir, span, labels).keep(capacity, balance)
    for span in data.draw(st.permutations(range(len(spans)))):
        reservoir = offer(reservoir, span, spans[span], version=2).keep(capacity, balance)
    assert kept(reservoir) == dealt(spans, capacity, balance, version=2)


@pytest.mark.parametrize("balance", BALANCES)
@LAW
@given(spans=SPANS, shorter=SPANS, capacity=CAPACITY)
def test_any_correction_leaves_no_example_of_the_version_before_and_never_more_than_fit(
    balance, spans, shorter, capacity
):
    reservoir = Reservoir()
    for version, content in ((1, spans), (2, shorter)):
        for span, labels in enumerate(content):
            reservoir = offer(reservoir, span, labels, version=version).keep(capacity, balance)
            assert len(kept(reservoir)) <= capacity
    versions = dict(zip(reservoir.examples["span"], reservoir.examples["version"], strict=True))
    assert all(version == (2 if span < len(shorter) else 1) for span, version in versions.items())


@pytest.mark.parametrize("balance", BALANCES)
@LAW
@given(spans=SPANS, capacity=CAPACITY)
def test_reservoir_does_not_change_in_place(balance, spans, capacity):
    reservoir = offer(Reservoir(), 99, ["a", "b", "c"])
    before = reservoir.examples.copy(deep=True), dict(reservoir.offered), reservoir.num_seen
    changed = reservoir
    for span, labels in enumerate(spans):
        changed = offer(changed, span, labels).keep(capacity, balance)
    assert reservoir.examples.equals(before[0])
    assert (dict(reservoir.offered), reservoir.num_seen) == before[1:]
    np.testing.assert_array_equal(priorities_of(0, "train", 99, 3), before[0]["priority"])
