"""Both questions, on a chain of warm starts with a rejected candidate, and on records with holes in them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd

from core.errors import LineageError
from lineage.graph import Artifact, Execution, ModelGraph, SpanKey, build_graph, load_models
from lineage.queries import find_model, model_lineage, span_lineage
from lineage.records import Replay
from schemas import provenance
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)

MakeHistory = Callable[[], Any]
MakeRef = Callable[..., SpanRef]


@pytest.fixture
def history(make_history: MakeHistory, make_ref: MakeRef) -> Any:
    """Cold start on spans 1 to 3, warm starts on 4, 5 (rejected) and 6, 7; then a cold start on the window 6 and 7."""
    history = make_history()
    cold = history.train(history.examples(*[make_ref(span) for span in (1, 2, 3)]))
    history.judge(cold, version=1)
    second = history.train(history.examples(make_ref(4)), base=cold)
    history.judge(second, version=2, champion=cold)
    rejected = history.train(history.examples(make_ref(5)), base=second)
    history.judge(rejected, version=None, champion=second)
    third = history.train(history.examples(make_ref(6)), base=second)
    history.judge(third, version=4, champion=second)
    fourth = history.train(history.examples(make_ref(7)), base=third)
    history.judge(fourth, version=5, champion=third, metrics='{"auc": 0.75, "auc_of_empty_slice": NaN}')
    restarted = history.train(history.examples(make_ref(6), make_ref(7)))
    history.judge(restarted, version=6, champion=fourth)
    history.models = [cold, second, rejected, third, fourth, restarted]
    return history


def test_a_model_names_all_that_made_it(history: Any, make_ref: MakeRef) -> None:
    graph = history.graph()
    cold, second, _, third, fourth, _ = history.models
    answer = model_lineage(graph, find_model(graph, 5))
    assert (answer.version, answer.uri) == (5, fourth.uri)
    assert [(ref.span, ref.direct) for ref in answer.spans] == [
        (1, False), (2, False), (3, False), (4, False), (6, False), (7, True),
    ]  # fmt: skip
    assert all(ref.digest == make_ref(ref.span).digest for ref in answer.spans)
    assert [(base.version, base.uri, base.span) for base in answer.base_models] == [
        (4, third.uri, 6),
        (2, second.uri, 4),
        (1, cold.uri, 3),
    ]
    assert [base.digest for base in answer.base_models] == [
        model.custom_properties[provenance.MODEL_DIGEST].string_value for model in (third, second, cold)
    ]
    assert (answer.transform_graph.digest, answer.reviewed_schema.digest) == ("1" * 64, "2" * 64)
    assert (answer.config.digest, answer.code.digest) == ("3" * 64, "4" * 64)
    assert answer.hyperparameters == {"batch_size": 256}
    assert answer.initialisation == "warm"
    assert answer.evaluation is not None
    assert answer.evaluation.blessed is True
    assert answer.evaluation.metrics == {"auc": 0.75}
    assert answer.unknown == ()


def test_sources_are_those_that_the_trainer_read(history: Any) -> None:
    graph = history.graph()
    node = find_model(graph, 2)
    answer = model_lineage(graph, node)
    assert node.training is not None
    assert answer.transform_graph.uri == node.training.inputs["transform_graph"][0].uri
    assert answer.reviewed_schema.uri == node.training.inputs["schema"][0].uri
    assert answer.model_dump(mode="json", by_alias=True)["schema"]["uri"] == answer.reviewed_schema.uri


def test_a_cold_start_has_no_base(history: Any) -> None:
    graph = history.graph()
    answer = model_lineage(graph, find_model(graph, 6))
    assert answer.base_models == ()
    assert [(ref.span, ref.direct) for ref in answer.spans] == [(6, True), (7, True)]
    assert (answer.initialisation, answer.unknown) == ("cold", ())


def test_a_rejected_candidate_has_a_lineage_but_no_version(history: Any) -> None:
    graph = history.graph()
    rejected = history.models[2]
    answer = model_lineage(graph, graph.models[rejected.uri])
    assert answer.version is None
    assert answer.evaluation is not None
    assert answer.evaluation.blessed is False
    assert [base.version for base in answer.base_models] == [2, 1]


def test_a_span_names_all_that_learned_from_it(history: Any) -> None:
    graph = history.graph()
    assert [(m.version, m.direct) for m in span_lineage(graph, 3).models] == [
        (1, True), (2, False), (None, False), (4, False), (5, False),
    ]  # fmt: skip
    assert [(m.version, m.direct) for m in span_lineage(graph, 6).models] == [(4, True), (5, False), (6, True)]
    assert [(m.version, m.direct) for m in span_lineage(graph, 5).models] == [(None, True)]
    assert span_lineage(graph, 99).models == ()


def test_a_correction_is_told_apart(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    model = history.train(history.examples(make_ref(1)))
    history.train(history.examples(make_ref(1, version=2)), base=model)
    assert [(m.span_version, m.direct) for m in span_lineage(history.graph(), 1).models] == [
        (1, True),
        (1, False),
        (2, True),
    ]


def test_an_unknown_version_is_refused(history: Any, make_history: MakeHistory) -> None:
    with pytest.raises(LineageError, match=r"no pushed model version 3\. Expected one of: 1, 2, 4, 5, 6"):
        find_model(history.graph(), 3)
    with pytest.raises(LineageError, match="Expected one of: none, since nothing was pushed yet"):
        find_model(make_history().graph(), 1)


def test_all_examples_of_a_trainer_count(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    model = history.train(history.examples(make_ref(2)), history.examples(make_ref(1), make_ref(2)))
    assert history.graph().models[model.uri].spans == {SpanKey(**make_ref(span).model_dump()) for span in (1, 2)}


def test_a_base_model_imported_as_another_artifact_is_found(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    base = history.train(history.examples(make_ref(1)))
    same_folder = history.artifact("Model", uri=base.uri)
    child = history.train(history.examples(make_ref(2)), base=same_folder)
    moved = history.artifact("Model", {provenance.MODEL_DIGEST: digest_of(base)}, uri="/moved/1")
    grandchild = history.train(history.examples(make_ref(3)), base=moved)
    graph = history.graph()
    for model in (child, grandchild):
        answer = model_lineage(graph, graph.models[model.uri])
        assert [entry.uri for entry in answer.base_models] == [base.uri]
        assert answer.unknown == ()
    assert [m.uri for m in span_lineage(graph, 1).models] == [base.uri, child.uri, grandchild.uri]


def test_a_base_model_from_elsewhere_is_named_unknown(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    foreign = history.artifact("Model", {provenance.MODEL_DIGEST: "f" * 64}, uri="/elsewhere/model")
    child = history.train(history.examples(make_ref(2)), base=foreign)
    graph = history.graph()
    answer = model_lineage(graph, graph.models[child.uri])
    (base,) = answer.base_models
    assert (base.uri, base.digest, base.span, base.version) == ("/elsewhere/model", "f" * 64, None, None)
    assert answer.unknown == ("How model /elsewhere/model was trained is unknown: not recorded.",)


def test_an_ancestor_that_was_deleted_is_named_unknown(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    child = history.train(
        history.examples(make_ref(2)),
        properties={provenance.BASE_MODEL_DIGEST: "f" * 64, provenance.INITIALISATION: "warm"},
    )
    graph = history.graph()
    answer = model_lineage(graph, graph.models[child.uri])
    assert answer.base_models == ()
    assert answer.unknown == (f"Which model {child.uri} started from is unknown: not recorded.",)


@pytest.mark.parametrize("spans", [None, "[", '{"span": 1}', '[{"span": -1}]', "[]"])
def test_unreadable_spans_are_named_unknown(make_history: MakeHistory, spans: str | None) -> None:
    history = make_history()
    examples = history.artifact("Examples", None if spans is None else {provenance.EXAMPLES_SPANS: spans})
    model = history.train(examples)
    graph = history.graph()
    answer = model_lineage(graph, graph.models[model.uri])
    assert answer.spans == ()
    assert answer.unknown == (f"Which spans trained model {model.uri} is unknown: not recorded.",)


def test_a_bare_model_does_not_crash(make_history: MakeHistory) -> None:
    history = make_history()
    model = history.artifact("Model")
    history.run("Importer", {}, {"result": [model]})
    graph = history.graph()
    answer = model_lineage(graph, graph.models[model.uri])
    assert (answer.digest, answer.evaluation, answer.hyperparameters) == (None, None, {})
    assert len(answer.unknown) == 1


def test_a_model_recorded_as_its_own_ancestor_ends_the_chain(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    first = history.train(history.examples(make_ref(1)), properties={provenance.INITIALISATION: "warm"})
    second = history.train(history.examples(make_ref(2)), base=first)
    history.run("Trainer", {"examples": [history.examples(make_ref(1))], "base_model": [second]}, {"model": [first]})
    graph = history.graph()
    answer = model_lineage(graph, graph.models[first.uri])
    assert [base.uri for base in answer.base_models] == [second.uri]
    assert answer.unknown == (
        f"What came before model {second.uri} is unknown: {first.uri} is recorded as its own ancestor.",
    )
    assert [m.uri for m in span_lineage(graph, 2).models] == [first.uri, second.uri]


@pytest.mark.parametrize("state", ["NEW", "RUNNING", "FAILED", "CANCELED"])
def test_an_attempt_that_did_not_complete_leaves_no_trace(
    make_history: MakeHistory, make_ref: MakeRef, state: str
) -> None:
    history = make_history()
    base = history.train(history.examples(make_ref(1)))
    model = history.train(history.examples(make_ref(2)), base=base)
    history.judge(model, version=2)
    before = history.graph()
    code = mlmd.Execution.State.Value(state)
    half = history.artifact("Model")
    report, pushed = (
        history.artifact("GateVerdict"),
        history.artifact("PushedModel", {"pushed": 1, "pushed_version": 9}),
    )
    history.run("Trainer", {"examples": [history.examples(make_ref(3))], "base_model": [model]}, {}, state=code)
    history.run("Trainer", {"examples": [history.examples(make_ref(3))]}, {"model": [model, half]}, state=code)
    history.run("Gate", {"model": [model]}, {"report": [report]}, state=code)
    history.run("Pusher", {"model": [model]}, {"pushed_model": [pushed]}, state=code)
    after = history.graph()
    assert after.models[model.uri] == before.models[model.uri]
    assert after.models[half.uri].training is None
    assert model_lineage(after, find_model(after, 2)) == model_lineage(before, find_model(before, 2))
    assert span_lineage(after, 3).models == ()


def test_removed_files_still_answer_and_say_so(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    base = history.train(history.examples(make_ref(1)))
    model = history.train(history.examples(make_ref(2)), base=base)
    history.judge(model, version=2)
    history.remove(base)
    graph = history.graph()
    answer = model_lineage(graph, find_model(graph, 2))
    assert (answer.is_removed, answer.transform_graph.is_removed) == (False, False)
    assert [(entry.uri, entry.is_removed) for entry in answer.base_models] == [(base.uri, True)]
    assert [(m.uri, m.is_removed) for m in span_lineage(graph, 1).models] == [(base.uri, True), (model.uri, False)]
    assert model_lineage(graph, graph.models[base.uri]).is_removed
    assert [ref.span for ref in answer.spans] == [1, 2]


def test_reading_takes_few_calls_however_many_models(history: Any) -> None:
    class CountingStore:
        num_calls = 0

        def __getattr__(self, name: str) -> Any:
            self.num_calls += 1
            return getattr(history.store, name)

    store: Any = CountingStore()
    assert len(load_models(store).models) == len(history.models)
    assert store.num_calls == 9


def test_reading_one_evaluation_answers_the_same(history: Any) -> None:
    whole = history.graph()
    for version in (1, 2, 4, 5, 6):
        part = load_models(history.store, evaluated=[version])
        assert model_lineage(part, find_model(part, version)) == model_lineage(whole, find_model(whole, version))
        assert [node.evaluation is not None for node in part.models.values()].count(True) == 1
    assert span_lineage(load_models(history.store, evaluated=()), 3) == span_lineage(whole, 3)


def test_an_empty_store_has_no_models(make_history: MakeHistory) -> None:
    assert load_models(make_history().store).models == {}


@st.composite
def graphs(draw: st.DrawFn) -> ModelGraph:
    """Draw families of models: each starts cold or from any earlier model, on any few spans; some are pushed."""
    models: list[Artifact] = []
    executions: list[Execution] = []
    refs = st.builds(lambda span, version: SpanRef(span=span, version=version, digest=f"{span}-{version}"),
                     st.integers(0, 6), st.integers(1, 2))  # fmt: skip
    for number in range(draw(st.integers(0, 12))):
        spans = draw(st.lists(refs, min_size=1, max_size=4, unique=True))
        base = draw(st.none() | st.sampled_from(models)) if models else None
        model = Artifact(f"/model/{number}", NOON, {provenance.MODEL_DIGEST: f"{number:064x}"})
        examples = Artifact("/examples", NOON, {provenance.EXAMPLES_SPANS: provenance.encode_spans(spans)})
        inputs = {"examples": (examples,)} | ({"base_model": (base,)} if base else {})
        models.append(model)
        executions.append(Execution(inputs, {"model": (model,)}))
        if draw(st.booleans()):
            pushed = Artifact("/pushed", NOON, {provenance.PUSHED: 1, provenance.PUSHED_VERSION: number})
            executions.append(Execution({"model": (model,)}, {"pushed_model": (pushed,)}))
    return build_graph(models, executions)


@settings(deadline=None)
@given(graphs())
def test_both_questions_are_inverses_of_each_other(graph: ModelGraph) -> None:
    by_model = {
        (model.uri, ref.span, ref.version, ref.direct)
        for model in graph.models.values()
        for ref in model_lineage(graph, model).spans
    }
    by_span = {
        (learner.uri, span, learner.span_version, learner.direct)
        for span in range(7)
        for learner in span_lineage(graph, span).models
    }
    assert by_model == by_span


def digest_of(model: Any) -> str:
    return str(model.custom_properties[provenance.MODEL_DIGEST].string_value)


def test_replayed_examples_are_counted_by_span(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    model = history.train(
        history.examples(make_ref(9)),
        replay=history.replay(s7=12, s8=30),
        properties={provenance.REPLAY_RATIO: "0.5", provenance.REGULARISATION: '{"l2_sp": 0.1}'},
    )
    graph = history.graph()
    answer = model_lineage(graph, graph.models[model.uri])
    assert answer.replay == Replay(ratio=0.5, members={"7-1": 12, "8-1": 30})
    assert [ref.span for ref in answer.spans] == [7, 8, 9]
    assert answer.regularisation == {"l2_sp": 0.1}
    assert [learner.direct for learner in span_lineage(graph, 7).models] == [True]


def test_a_buffer_is_the_one_before_and_what_changed(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    first = history.replay(s1=12, s2=12)
    second = history.replay(first, s1=6, s3=6)
    third = history.replay(second, s4=4, s2=2)
    spans = []
    for span, buffer in ((5, first), (6, second), (7, third)):
        model = history.train(history.examples(make_ref(span)), replay=buffer)
        graph = history.graph()
        spans.append([ref.span for ref in model_lineage(graph, graph.models[model.uri]).spans])
    assert spans == [[1, 2, 5], [1, 3, 6], [2, 4, 7]]


def test_a_buffer_that_lists_all_its_spans_is_believed(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    spans = {provenance.EXAMPLES_SPANS: provenance.encode_spans([make_ref(1), make_ref(2)])}
    earlier = history.artifact(provenance.REPLAY_BUFFER_TYPE, spans)
    joined = {provenance.REPLAY_SPANS_JOINED: provenance.encode_spans([make_ref(3)]), "spans_left": "[]"}
    later = history.artifact(provenance.REPLAY_BUFFER_TYPE, joined | {provenance.REPLAY_PREVIOUS: earlier.uri})
    history.run("ReplayGen", {}, {"buffer": [earlier]})
    history.run("ReplayGen", {"previous": [earlier]}, {"buffer": [later]})
    model = history.train(history.examples(make_ref(4)), replay=later)
    graph = history.graph()
    assert [ref.span for ref in model_lineage(graph, graph.models[model.uri]).spans] == [1, 2, 3, 4]


def test_what_cannot_be_known_of_a_buffer_is_named_unknown(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    foreign = history.artifact(provenance.REPLAY_BUFFER_TYPE, uri="/elsewhere/buffer")
    model = history.train(history.examples(make_ref(9)), replay=foreign)
    graph = history.graph()
    answer = model_lineage(graph, graph.models[model.uri])
    assert answer.replay == Replay(ratio=None, members={})
    assert answer.unknown == (
        f"Which spans trained model {model.uri} is unknown: not recorded.",
        "How many examples of each span were replayed is unknown: /elsewhere/buffer cannot be read.",
    )


def test_a_probe_that_chose_a_cold_start_cuts_the_chain(make_history: MakeHistory, make_ref: MakeRef) -> None:
    history = make_history()
    base = history.train(history.examples(make_ref(7)))
    why = "Cold start: 0.51 after 200 steps, warm 0.52."
    chosen = {provenance.INITIALISATION: "cold", provenance.INITIALISATION_WHY: why, provenance.REPLAY_RATIO: "0"}
    model = history.train(history.examples(make_ref(8)), base=base, replay=history.replay(s7=12), properties=chosen)
    graph = history.graph()
    answer = model_lineage(graph, graph.models[model.uri])
    assert answer.base_models == answer.unknown == ()
    assert answer.replay is None
    assert [ref.span for ref in answer.spans] == [8]
    assert answer.initialisation_why == why
