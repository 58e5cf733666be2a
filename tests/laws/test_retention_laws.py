"""What garbage collection leaves, whatever the history: the champion, whole lines, and as much when repeated."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pipeline.registry import rollback_target
from pipeline.retention import History, kept_versions
from schemas.ledger_records import ChampionMove, ModelRecord

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Models in any family tree, some pinned, and any of them the champion."""
    models = []
    for version in range(1, draw(st.integers(1, 12)) + 1):
        base = draw(st.none() | st.integers(1, version - 1)) if version > 1 else None
        models.append(
            ModelRecord(
                version=version,
                run_id=f"run-{version}",
                span=version,
                span_version=1,
                model_uri=f"/{version}",
                model_digest="",
                training_digest="",
                transform_graph_uri="",
                transform_span=version,
                statistics_uri="",
                model_shape="",
                base_version=base,
                pushed_at=NOON,
                is_pinned=draw(st.integers(0, 9)) == 0,
            )
        )
    champion = draw(st.none() | st.integers(1, len(models)))
    return History(champion_version=champion, newest_replay_uri=None, models=tuple(models), runs=(), spans=())


def collected(history: History, keep_last: int) -> History:
    kept = kept_versions(history, keep_last)
    return history.model_copy(
        update={
            "models": tuple(
                model if model.version in kept else model.model_copy(update={"removed_at": NOON})
                for model in history.models
            )
        }
    )


@given(histories(), st.integers(1, 6))
def test_the_kept_have_all_their_ancestors(history: History, keep_last: int) -> None:
    kept = kept_versions(history, keep_last)
    bases = {history.present[version].base_version for version in kept} - {None}
    assert bases <= kept


@given(histories(), st.integers(1, 6))
def test_champion_pinned_and_newest_are_kept(history: History, keep_last: int) -> None:
    kept = kept_versions(history, keep_last)
    assert history.champion_version is None or history.champion_version in kept
    assert {model.version for model in history.models if model.is_pinned} <= kept
    assert {model.version for model in history.models[-keep_last:]} <= kept


@given(histories(), st.integers(1, 6))
def test_collecting_again_finds_nothing_more(history: History, keep_last: int) -> None:
    once = collected(history, keep_last)
    assert collected(once, keep_last) == once
    assert kept_versions(once, keep_last) == kept_versions(history, keep_last)


@given(histories(), st.integers(1, 6))
def test_only_what_serves_nobody_goes(history: History, keep_last: int) -> None:
    gone = set(history.present) - kept_versions(history, keep_last)
    children = {model.base_version: model.version for model in history.models if model.version not in gone}
    assert gone.isdisjoint(children)


@st.composite
def moves(draw: st.DrawFn) -> list[ChampionMove]:
    made: list[ChampionMove] = []
    for version in draw(st.lists(st.integers(1, 6), max_size=12)):
        previous = made[-1].version if made else None
        if version != previous:
            by = draw(st.sampled_from(["cycle", "promote", "rollback"])) if previous else "cycle"
            made.append(ChampionMove(version=version, previous=previous, by=by, at=NOON))
    return made


@given(moves(), st.sets(st.integers(1, 6)))
def test_a_rollback_goes_to_a_present_champion_of_the_past(made: list[ChampionMove], removed: set[int]) -> None:
    target = rollback_target(made, removed)
    if target is not None:
        assert target not in removed
        assert target != made[-1].version
        assert target in {move.previous for move in made}


@given(moves())
def test_rolling_back_again_and_again_visits_no_model_twice(made: list[ChampionMove]) -> None:
    visited = []
    while (target := rollback_target(made, ())) is not None:
        visited.append(target)
        made.append(ChampionMove(version=target, previous=made[-1].version, by="rollback", at=NOON))
    assert len(visited) == len(set(visited))
