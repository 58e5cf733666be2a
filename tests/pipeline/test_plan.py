import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from pipeline.config import WindowOptions
from pipeline.plan import DONE_STATES, Skip, next_span, plan_run, planned_span

WINDOW = WindowOptions(cold_spans=8, warm_spans=1)


@pytest.fixture
def plan(now):
    def make(knowledge, ref, window=WINDOW, **changes):
        return plan_run(knowledge, ref, window, trigger="manual", now=now, push_version=5, **changes)

    return make


def test_first_run_is_cold_over_the_history_in_the_window(make_knowledge, make_ref, plan):
    made = plan(make_knowledge(10), make_ref(9))
    assert made.initialisation == "cold"
    assert [ref.span for ref in made.window] == list(range(2, 10))
    assert made.transform_graph_uri is made.base_model_uri is made.reference_statistics_uri is None
    assert "no champion" in made.why[0]


def test_later_run_is_warm_from_the_champion(make_knowledge, make_ref, make_champion, plan):
    made = plan(make_knowledge(10, {8: "pushed"}, make_champion()), make_ref(9))
    assert made.initialisation == "warm"
    assert made.window == (make_ref(9),)
    assert (made.base_model_uri, made.transform_graph_uri) == ("/models/8", "/transform/8")
    assert (made.previous_statistics_uri, made.reference_statistics_uri) == ("/statistics/8", "/statistics/8")


def test_drift_makes_it_cold_and_keeps_the_champion_to_compare_with(make_knowledge, make_ref, make_champion, plan):
    champion = make_champion()
    made = plan(make_knowledge(10, {8: "pushed"}, champion), make_ref(9), force_cold="dest drifted.")
    assert (made.initialisation, made.base_model_uri, made.transform_graph_uri) == ("cold", None, None)
    assert made.champion == champion
    assert "dest drifted." in made.why[0]


def test_refresh_is_due_after_so_many_spans(make_knowledge, make_ref, make_champion, plan):
    window = WindowOptions(refresh_every_spans=4)
    knowledge = make_knowledge(12, {8: "pushed"}, make_champion(transform_span=8))
    assert plan(knowledge, make_ref(11), window).initialisation == "warm"
    due = plan(knowledge, make_ref(12), window)
    assert due.initialisation == "cold"
    assert "4 spans old" in due.why[0]


def test_changed_model_starts_cold(make_knowledge, make_ref, make_champion, plan):
    made = plan(make_knowledge(9, {}, make_champion(model_shape="other")), make_ref(9))
    assert made.initialisation == "cold"
    assert "changed" in made.why[0]


def test_blocked_span_is_neither_trained_on_nor_compared_with(make_knowledge, make_ref, make_champion, plan):
    knowledge = make_knowledge(9, {7: "pushed", 8: "blocked"}, make_champion(span=7))
    made = plan(knowledge, make_ref(9), force_cold="drift.")
    assert 8 not in [ref.span for ref in made.window]
    assert made.previous_statistics_uri == "/statistics/7"


def test_plan_digest_ignores_when_it_was_made(make_knowledge, make_ref, plan, now):
    knowledge = make_knowledge(9)
    again = plan_run(knowledge, make_ref(9), WINDOW, trigger="next", now=now.replace(year=2030), push_version=77)
    assert plan(knowledge, make_ref(9)).digest == again.digest
    assert plan(knowledge, make_ref(8)).digest != again.digest


@pytest.mark.parametrize("state", sorted(DONE_STATES))
def test_done_span_is_skipped_with_its_state(make_knowledge, state):
    skip = planned_span(make_knowledge(3, {2: state}), 2)
    assert isinstance(skip, Skip)
    assert skip.reason == f"Span 2 version 1 is already done: {state}."


def test_corrected_span_is_planned_again(make_knowledge, make_ref):
    knowledge = make_knowledge(3, {2: "pushed"})
    corrected = knowledge.model_copy(update={"spans": (make_ref(1), make_ref(2, version=2), make_ref(3))})
    assert planned_span(corrected, 2) == make_ref(2, version=2)


def test_span_that_does_not_exist(make_knowledge):
    with pytest.raises(DataError, match=r"Span 9 does not exist\. Expected one of 1\.\.3 \(3 spans\)"):
        planned_span(make_knowledge(3), 9)


def test_broken_span_is_neither_run_nor_passed_over(make_knowledge, make_champion):
    knowledge = make_knowledge(3, {1: "pushed"}, make_champion(), unusable={2: "Span 2 version 1 has no manifest.json"})
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        planned_span(knowledge, 2)
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        next_span(knowledge, WINDOW)


@given(num_spans=st.integers(1, 30), cold_spans=st.integers(1, 12))
def test_next_without_a_champion_leaves_a_full_window_behind_it(make_knowledge, num_spans, cold_spans):
    chosen = next_span(make_knowledge(num_spans), WindowOptions(cold_spans=cold_spans))
    assert chosen.span == min(num_spans, cold_spans)


@given(data=st.data(), num_spans=st.integers(1, 20))
def test_next_is_the_oldest_that_is_not_done(make_knowledge, make_champion, data, num_spans):
    states = data.draw(st.dictionaries(st.integers(1, num_spans), st.sampled_from([*sorted(DONE_STATES), "arrived"])))
    chosen = next_span(make_knowledge(num_spans, states, make_champion()), WINDOW)
    pending = [span for span in range(1, num_spans + 1) if states.get(span, "arrived") == "arrived"]
    if pending:
        assert chosen.span == pending[0]
    else:
        assert isinstance(chosen, Skip)
