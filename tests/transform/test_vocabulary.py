"""What a refreshed vocabulary keeps, over random vocabularies: it grows at its end, and only the rarest leave."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.analysis import VocabularyAnalysis
from transform.vocabulary import kept_tokens

COUNTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 5), max_size=12)
CAPACITIES = st.integers(1, 12)
MIN_FREQUENCIES = st.integers(1, 5)


@st.composite
def vocabularies(draw: Any) -> VocabularyAnalysis:
    counts = draw(COUNTS)
    names = draw(st.permutations(sorted(counts)))
    num_tokens = draw(st.integers(0, len(names)))
    return VocabularyAnalysis(
        tokens=tuple(names[:num_tokens]),
        counts=tuple(counts[name] for name in names[:num_tokens]),
        candidates={name: counts[name] for name in names[num_tokens:]},
    )


@given(vocabularies(), CAPACITIES, MIN_FREQUENCIES)
def test_nothing_moves_while_all_fit(base: VocabularyAnalysis, capacity: int, min_frequency: int) -> None:
    wanted = {token for token, count in base.candidates.items() if count >= min_frequency}
    kept = kept_tokens(base, len(base.tokens) + len(wanted) + capacity, min_frequency)
    assert kept[: len(base.tokens)] == base.tokens
    new = kept[len(base.tokens) :]
    assert set(new) == wanted
    assert [base.candidates[token] for token in new] == sorted((base.candidates[token] for token in new), reverse=True)


@given(vocabularies(), CAPACITIES, MIN_FREQUENCIES)
def test_only_the_rarest_leave_and_the_rest_keep_their_order(
    base: VocabularyAnalysis, capacity: int, min_frequency: int
) -> None:
    kept = kept_tokens(base, capacity, min_frequency)
    counts = {**dict(zip(base.tokens, base.counts, strict=True)), **base.candidates}
    eligible = [*base.tokens, *(token for token, count in base.candidates.items() if count >= min_frequency)]
    assert len(kept) == len(set(kept)) == min(capacity, len(eligible))
    left = [counts[token] for token in eligible if token not in kept]
    assert not left or max(left) <= min(counts[token] for token in kept)
    survivors = [token for token in base.tokens if token in kept]
    assert list(kept[: len(survivors)]) == survivors
    # A candidate never takes the place of a token that was seen as often.
    taken_in = [counts[token] for token in kept if token in base.candidates]
    evicted = [counts[token] for token in base.tokens if token not in kept]
    assert not taken_in or not evicted or max(evicted) < min(taken_in)


@given(vocabularies(), CAPACITIES, st.randoms())
def test_order_of_the_candidates_does_not_matter(base: VocabularyAnalysis, capacity: int, random: Any) -> None:
    items = list(base.candidates.items())
    random.shuffle(items)
    shuffled = base.model_copy(update={"candidates": dict(items)})
    assert kept_tokens(shuffled, capacity, 1) == kept_tokens(base, capacity, 1)


def test_least_frequent_is_replaced_at_capacity() -> None:
    base = VocabularyAnalysis(tokens=("a", "b", "c"), counts=(5, 1, 2), candidates={"d": 2, "e": 1})
    assert kept_tokens(base, 3, 1) == ("a", "c", "d")
    assert kept_tokens(base, 3, 3) == base.tokens
    with pytest.raises(ValueError, match="zip"):
        kept_tokens(base.model_copy(update={"counts": (5,)}), 3, 1)
