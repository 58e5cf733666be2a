"""Which repair a correction leads to, by what it changed and by what is tainted."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.changes import Change
from pipeline.policies import CorrectionOptions
from pipeline.repair import ChosenRepair, choose_repair, joined
from schemas.spans import SpanRef
from schemas.taint import CleanAncestor, Taint

AUTO = CorrectionOptions(ignore_below=0.01, replay_below=0.2, max_rerun_spans=4)
KINDS = ("ignore", "replay", "rerun", "cold_start")


def change_of(num_altered: int) -> Change:
    return Change(num_before=1000, num_after=1000, num_added=num_altered, num_removed=num_altered)


@pytest.fixture
def choose(make_ref: Callable[..., SpanRef], make_champion: Callable[..., Any]) -> Callable[..., ChosenRepair | None]:
    """Choose for a correction of span 6, where the champion learned spans up to 8 and its ancestor up to span 5."""

    def make(
        num_altered: int | None = 1000,
        options: CorrectionOptions = AUTO,
        *,
        learned_since: tuple[int, ...] = (6, 7, 8),
        has_ancestor: bool = True,
        **changes: Any,
    ) -> ChosenRepair | None:
        ancestor = CleanAncestor(model=make_champion(version=3, span=5), replay_uri="/replay/5")
        taint = Taint(
            sources=(make_ref(6),),
            champion_version=7,
            champion_is_tainted=True,
            clean_ancestor=ancestor if has_ancestor else None,
            learned_since=tuple(make_ref(span) for span in learned_since),
        )
        return choose_repair(
            taint.model_copy(update=changes),
            None if num_altered is None else change_of(num_altered),
            options,
            correction=make_ref(6, version=2),
            usable={span: make_ref(span) for span in range(1, 9)},
            cold_spans=3,
        )

    return make


@pytest.mark.parametrize(
    ("num_altered", "kind"),
    [(0, "ignore"), (10, "ignore"), (11, "replay"), (200, "replay"), (201, "rerun"), (1000, "rerun"), (None, "rerun")],
)
def test_auto_takes_the_cheapest_that_is_enough(choose: Any, num_altered: int | None, kind: str) -> None:
    assert choose(num_altered).kind == kind


def test_nothing_is_repaired_that_the_champion_never_learned(choose: Any) -> None:
    assert choose(champion_is_tainted=False) is None


def test_ignoring_changes_no_plan_and_says_why(choose: Any) -> None:
    repair = choose(10)
    assert repair.request is None
    assert not repair.has_own_cycle
    assert repair.why == (
        "Span 6 version 2 changes 1.00% of what the champion learned from (10 examples added, 10 removed of 1,000). "
        "Nothing is trained again: corrections.ignore_below is 1.00%."
    )


def test_a_replayed_correction_joins_the_window_of_the_next_cycle(choose: Any, make_ref: Any) -> None:
    repair = choose(100)
    assert not repair.has_own_cycle
    assert repair.request.corrections == (make_ref(6, version=2),)
    assert (repair.request.base, repair.request.window) == (None, None)
    together = joined([repair, choose(5), repair.model_copy(update={"correction": make_ref(7, version=2)})])
    assert together is not None
    assert [ref.span for ref in together.corrections] == [6, 7]
    assert joined([choose(5), choose(1000)]) is None


def test_a_rerun_starts_from_the_clean_ancestor_and_learns_all_since(choose: Any, make_ref: Any) -> None:
    repair = choose(1000)
    assert repair.has_own_cycle
    assert repair.request.base.version == 3
    assert repair.request.replay_uri == "/replay/5"
    # The cycle is the corrected span's, which is checked for drift like any other.
    assert repair.request.window == (make_ref(7), make_ref(8), make_ref(6, version=2))
    assert repair.force_cold is None
    assert "from version 3, the last clean ancestor, learns spans 6..8: 3 learned since" in repair.why


def test_a_span_that_cannot_be_used_any_more_is_left_out_of_a_rerun(choose: Any) -> None:
    repair = choose(1000, learned_since=(6, 7, 99))
    assert [ref.span for ref in repair.request.window] == [7, 6]
    assert "learns spans 6..7" in repair.why


def test_too_long_a_rerun_is_a_cold_start_on_the_newest_spans(choose: Any, make_ref: Any) -> None:
    repair = choose(1000, learned_since=(4, 5, 6, 7, 8))
    assert repair.kind == "cold_start"
    assert repair.has_own_cycle
    assert repair.request.window == (make_ref(7), make_ref(8), make_ref(6, version=2))
    assert (repair.request.base, repair.request.replay_uri) == (None, None)
    assert repair.force_cold == repair.why
    assert "5 spans would have to be learned again, and corrections.max_rerun_spans is 4." in repair.why


def test_without_a_clean_ancestor_there_is_only_a_cold_start(choose: Any) -> None:
    assert choose(1000, has_ancestor=False).why.endswith("no ancestor of the champion is clean.")
    assert choose(1000, CorrectionOptions(repair="rerun"), has_ancestor=False).kind == "cold_start"
    assert choose(100, has_ancestor=False).kind == "replay"


@pytest.mark.parametrize("kind", KINDS)
def test_a_repair_by_name_is_done_whatever_changed(choose: Any, kind: Any) -> None:
    repair = choose(500, CorrectionOptions(repair=kind, max_rerun_spans=1))
    assert repair.kind == kind
    assert repair.why.endswith(f"corrections.repair is {kind}.")


def test_a_change_that_cannot_be_told_counts_as_everything(choose: Any) -> None:
    assert choose(None, learned_since=(4, 5, 6, 7, 8)).kind == "cold_start"
    assert "how much it changes cannot be told." in choose(None).why


def test_a_cold_start_of_one_span_learns_the_correction_alone(choose: Any, make_ref: Any) -> None:
    taint = Taint(sources=(make_ref(6),), champion_is_tainted=True, learned_since=(make_ref(6),))
    correction = make_ref(6, version=2)
    usable = {span: make_ref(span) for span in range(1, 9)}
    repair = choose_repair(taint, None, AUTO, correction=correction, usable=usable, cold_spans=1)
    assert repair is not None
    assert repair.request is not None
    assert repair.request.window == (correction,)
    assert "A cold start learns span 6:" in repair.why


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    first=st.integers(0, 1000),
    second=st.integers(0, 1000),
    ignore_below=st.floats(0, 1),
    replay_below=st.floats(0, 1),
    max_rerun_spans=st.integers(1, 5),
)
def test_a_greater_change_never_leads_to_a_cheaper_repair(
    first: int, second: int, ignore_below: float, replay_below: float, max_rerun_spans: int
) -> None:
    options = CorrectionOptions(ignore_below=ignore_below, replay_below=replay_below, max_rerun_spans=max_rerun_spans)
    ref = SpanRef(span=6, version=1, digest="d")
    taint = Taint(sources=(ref,), champion_is_tainted=True, learned_since=(ref,))

    def cost(num_altered: int) -> int:
        correction = SpanRef(span=6, version=2, digest="e")
        chosen = choose_repair(taint, change_of(num_altered), options, correction=correction, usable={}, cold_spans=2)
        assert chosen is not None
        return KINDS.index(chosen.kind)

    low, high = sorted((first, second))
    assert cost(low) <= cost(high)
