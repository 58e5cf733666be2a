import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from pipeline.config import WindowOptions
from pipeline.plan import DONE_STATES, Request, Skip, next_span, plan_run, planned_span, shadow_is_due
from schemas.features import NumericFeature

WINDOW = WindowOptions(cold_spans=8, warm_spans=1)


@pytest.fixture
def plan(now):
    def make(knowledge, ref, window=WINDOW, initialisation="warm", **changes):
        request = Request(**{"span": ref, "trigger": "manual", "now": now, "push_version": 5, **changes})
        return plan_run(knowledge, request, window, initialisation=initialisation)

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


def test_refresh_is_due_after_so_many_spans_and_stays_warm(make_knowledge, make_ref, make_champion, plan):
    window = WindowOptions(cold_spans=3, refresh_every_spans=4)
    knowledge = make_knowledge(12, {8: "pushed"}, make_champion(transform_span=8))
    frozen = plan(knowledge, make_ref(11), window)
    assert (frozen.transform_graph_uri, frozen.analysis_window) == ("/transform/8", ())
    due = plan(knowledge, make_ref(12), window)
    assert (due.initialisation, due.base_model_uri, due.transform_graph_uri) == ("warm", "/models/8", None)
    assert [ref.span for ref in due.analysis_window] == [10, 11, 12]
    assert due.window == (make_ref(12),)
    assert "refreshed transform graph: it is 4 spans old" in due.why[0]


def test_added_feature_is_a_refresh_and_a_removed_one_a_cold_start(
    make_knowledge, make_ref, make_champion, plan, shape
):
    features = shape.feature_set.features
    more = {**features, "wind": NumericFeature(kind="numeric")}
    fewer = {"dest": features["dest"]}

    def with_features(changed):
        feature_set = shape.feature_set.model_copy(update={"features": changed})
        return make_knowledge(9, {}, make_champion()).model_copy(
            update={"shape": shape.model_copy(update={"feature_set": feature_set})}
        )

    added = plan(with_features(more), make_ref(9))
    assert (added.initialisation, added.transform_graph_uri) == ("warm", None)
    assert "added in the config" in added.why[0]
    removed = plan(with_features(fewer), make_ref(9))
    assert removed.initialisation == "cold"
    assert "temp" in removed.why[0]


def test_users_own_preprocessing_cannot_be_refreshed(make_knowledge, make_ref, make_champion, plan, shape):
    own = shape.feature_set.model_copy(update={"preprocessing_fn": "mine:preprocess"})
    own_shape = shape.model_copy(update={"feature_set": own})
    champion = make_champion(model_shape=own_shape.model_dump_json())
    knowledge = make_knowledge(12, {}, champion).model_copy(update={"shape": own_shape})
    assert plan(knowledge, make_ref(9)).initialisation == "warm"
    due = plan(knowledge, make_ref(12), WindowOptions(refresh_every_spans=4))
    assert due.initialisation == "cold"
    assert "preprocessing_fn of your own" in due.why[0]


def test_champion_of_unknown_shape_starts_cold(make_knowledge, make_ref, make_champion, plan):
    made = plan(make_knowledge(9, {}, make_champion(model_shape="a digest of old")), make_ref(9))
    assert made.initialisation == "cold"
    assert "does not say from which features" in made.why[0]


@pytest.mark.parametrize("initialisation", ["warm", "shrink_perturb", "auto", "cold"])
def test_config_says_how_a_run_with_a_base_starts(make_knowledge, make_ref, make_champion, plan, initialisation):
    made = plan(make_knowledge(9, {}, make_champion(line_length=3)), make_ref(9), initialisation=initialisation)
    assert made.initialisation == initialisation
    assert (made.line_length, made.base_model_uri) == ((0, None) if initialisation == "cold" else (4, "/models/8"))
    assert plan(make_knowledge(9), make_ref(9), initialisation=initialisation).initialisation == "cold"


def test_plan_names_the_replay_buffer_and_the_earlier_scores(make_knowledge, make_ref, make_champion, plan):
    made = plan(make_knowledge(9, {6: "pushed", 7: "rejected", 8: "pushed"}, make_champion()), make_ref(9))
    assert made.replay_uri == "/replay/8"
    assert [(score.span, score.metrics) for score in made.prequential_history] == [
        (6, {"auc": 0.06}),
        (8, {"auc": 0.08}),
    ]
    assert made.is_prequential


def test_scores_before_the_line_began_are_not_its_own(make_knowledge, make_ref, make_champion, plan):
    knowledge = make_knowledge(9, {6: "pushed", 7: "pushed", 8: "pushed"}, make_champion())
    made = plan(knowledge.model_copy(update={"line_start_span": 7}), make_ref(9))
    assert [score.span for score in made.prequential_history] == [8]


def test_champion_is_not_scored_on_what_it_may_have_seen(make_knowledge, make_ref, make_champion, plan):
    knowledge = make_knowledge(9, {8: "pushed"}, make_champion())
    assert not plan(knowledge, make_ref(8, version=2)).is_prequential
    assert not plan(knowledge, make_ref(9), is_shadow=True, force_cold="shadow.").is_prequential
    assert not plan(make_knowledge(9), make_ref(9)).is_prequential


def test_shadow_model_is_due_by_the_last_full_training(make_knowledge):
    window = WindowOptions(shadow_every_spans=4)
    knowledge = make_knowledge(12, last_full_training_span=8)
    assert [shadow_is_due(knowledge, span, window) for span in (11, 12, 13)] == [False, True, True]
    assert not shadow_is_due(knowledge, 40, WindowOptions())
    assert not shadow_is_due(make_knowledge(12), 40, window)


def test_shadow_model_has_a_window_of_its_own(make_knowledge, make_ref, make_champion, plan):
    window = WindowOptions(cold_spans=2, shadow_spans=5)
    made = plan(make_knowledge(9, {}, make_champion()), make_ref(9), window, is_shadow=True, force_cold="shadow.")
    assert [ref.span for ref in made.window] == [5, 6, 7, 8, 9]
    assert made.analysis_window == made.window


def test_blocked_span_is_neither_trained_on_nor_compared_with(make_knowledge, make_ref, make_champion, plan):
    knowledge = make_knowledge(9, {7: "pushed", 8: "blocked"}, make_champion(span=7))
    made = plan(knowledge, make_ref(9), force_cold="drift.")
    assert 8 not in [ref.span for ref in made.window]
    assert made.previous_statistics_uri == "/statistics/7"


def test_plan_digest_ignores_when_it_was_made(make_knowledge, make_ref, plan, now):
    knowledge = make_knowledge(9)
    again = plan(knowledge, make_ref(9), trigger="next", now=now.replace(year=2030), push_version=77)
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
    with pytest.raises(DataError, match=r"Span 9 does not exist\. Expected one that was ingested, such as 3"):
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
