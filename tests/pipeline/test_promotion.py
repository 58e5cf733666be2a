from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.promotion import moves_backwards, newest_span


@pytest.mark.parametrize(
    ("learned", "champion_learned", "is_backwards"), [(8, 9, True), (9, 9, False), (10, 9, False)], ids=str
)
def test_a_champion_never_moves_backwards(
    make_champion: Any, learned: int, champion_learned: int, is_backwards: bool
) -> None:
    model = make_champion(version=5, newest_span=learned)
    champion = make_champion(version=4, newest_span=champion_learned)
    assert (moves_backwards(model, champion) is not None) == is_backwards
    assert moves_backwards(model, None) is None


def test_the_reason_names_both_sides(make_champion: Any) -> None:
    reason = moves_backwards(make_champion(version=5, newest_span=3), make_champion(version=4, newest_span=9))
    assert reason == (
        "Not promoted: it has learned from nothing newer than span 3, and champion version 4 from spans up to 9. "
        "A champion never moves backwards."
    )


def test_a_model_of_an_old_ledger_counts_by_its_own_span(make_champion: Any) -> None:
    assert newest_span(make_champion(span=8, newest_span=None)) == 8
    assert newest_span(make_champion(span=8, newest_span=12)) == 12


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spans=st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_whatever_is_tried_in_whatever_order_the_newest_span_only_grows(make_champion: Any, spans: list[int]) -> None:
    champion, newest = None, []
    for version, span in enumerate(spans, start=1):
        model = make_champion(version=version, newest_span=span)
        if moves_backwards(model, champion) is None:
            champion = model
        newest.append(newest_span(champion))
    assert newest == sorted(newest)
    assert newest[-1] == max(spans)
