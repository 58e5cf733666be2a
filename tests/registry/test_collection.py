"""What a collection removes, what it leaves, and what a kill in the middle leaves."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, LedgerError, UnavailableError
from ledger.ledger import Ledger
from lineage.garbage import present_artifacts
from lineage.store import opened_store
from pipeline import collection
from pipeline.collection import (
    CHECKPOINT,
    LEFTOVER,
    NOTES,
    SERVED_VERSION,
    TEMPORARY,
    Garbage,
    find_garbage,
    remove_garbage,
)
from schemas.ledger_records import SpanArrival
from schemas.spans import SpanRef
from serving.version_store import hidden_versions, versions

# Of the pipeline `line`: 5 is the champion and 4 the other of the newest two; both descend from 3, a cold start.
KEPT = {
    *(f"{node}/{span}" for node in ("ExampleGen", "StatisticsGen", "ReplayGen", "Trainer") for span in (4, 5)),
    # The base of both, with the graph that they read and the statistics that drift is measured against.
    "Trainer/3",
    "Transform/3",
    "StatisticsGen/3",
    # The newest spans that a repair may run again, and what the first of them is compared with.
    "ReplayGen/3",
}


def collect(line: Any) -> Garbage:
    garbage = find_garbage(line.config, line.ledger)
    remove_garbage(line.config, line.ledger, garbage)
    return garbage


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_what_no_model_and_no_plan_needs_goes(line: Any) -> None:
    garbage = collect(line)
    assert garbage.versions == (1, 2)
    assert line.folders() == KEPT
    assert versions(line.config.serving_path) == [3, 4, 5]
    assert [model.version for model in line.ledger.models() if model.removed_at] == [1, 2]
    kinds = {entry.kind for entry in garbage.doomed}
    types = {"Model", "Examples", "ExampleStatistics", "ReplayBuffer", "TransformGraph"}
    assert kinds == types | {SERVED_VERSION, CHECKPOINT, NOTES}


def test_what_lies_in_an_object_store_is_neither_removed_nor_marked(remote_line: Any, tmp_path: Path) -> None:
    brought = files_below(tmp_path / "launcher")
    garbage = collect(remote_line)
    assert garbage.uris == frozenset()
    # Five of the cold start 1 and four of 2; of 3, Examples alone.
    assert garbage.num_remote == 10
    assert {entry.kind for entry in garbage.doomed} == {SERVED_VERSION, CHECKPOINT, NOTES}
    assert files_below(tmp_path / "launcher") == brought
    assert versions(remote_line.config.serving_path) == [3, 4, 5]
    again = collect(remote_line)
    assert (again.doomed, again.versions, again.num_remote) == ((), (), garbage.num_remote)


def test_what_ml_metadata_calls_present_is_there_and_the_rest_is_not(line: Any) -> None:
    collect(line)
    with opened_store(line.config.metadata_url) as store:
        present = present_artifacts(store)
        everything = store.get_artifacts()
    assert all(Path(artifact.uri).exists() == (artifact.uri in present) for artifact in everything)
    assert len(present) < len(everything)


def test_looking_changes_nothing_and_names_every_byte(line: Any) -> None:
    before = files_below(line.config.root_path)
    garbage = find_garbage(line.config, line.ledger)
    assert files_below(line.config.root_path) == before
    (model,) = [e for e in garbage.doomed if e.kind == "Model" and e.path == line.ledger.model(2).model_uri]
    assert model.num_bytes == len(b"0123456789") + len(b"graph of 2")
    remove_garbage(line.config, line.ledger, garbage)
    gone = before - files_below(line.config.root_path)
    assert {entry.path for entry in garbage.doomed} <= gone
    assert all(any(path.startswith(entry.path) for entry in garbage.doomed) for path in gone)


def test_a_file_with_another_hard_link_frees_nothing(line: Any, tmp_path: Path) -> None:
    data = Path(line.ledger.model(1).model_uri) / "data"
    (tmp_path / "span").mkdir()
    os.link(data, tmp_path / "span" / "data")
    (model,) = [e for e in find_garbage(line.config, line.ledger).doomed if e.path == str(data.parent)]
    assert model.num_bytes == len(b"graph of 1")


def test_a_second_collection_finds_nothing(line: Any) -> None:
    collect(line)
    assert find_garbage(line.config, line.ledger) == Garbage()


def test_pinned_models_stay_with_their_ancestors(line: Any) -> None:
    line.ledger.pin(2)
    assert collect(line).versions == ()
    assert {"Trainer/1", "Trainer/2", "Transform/1", "ExampleGen/2"} <= line.folders()
    line.ledger.unpin(2)
    assert collect(line).versions == (1, 2)


def test_models_after_the_champion_stay_so_that_a_rollback_can_be_taken_back(line: Any) -> None:
    line.ledger.promote(5, 2)
    assert collect(line).versions == ()
    assert (versions(line.config.serving_path), hidden_versions(line.config.serving_path)) == ([1, 2], [3, 4, 5])


@pytest.mark.parametrize("outcome", [None, "failed", "champion_moved"])
def test_a_run_that_may_go_on_loses_nothing(line: Any, outcome: str | None) -> None:
    line.cycle(6, outcome, base=5)
    for span in (7, 8, 9):
        line.cycle(span, base=5)
    collect(line)
    assert {"ExampleGen/6", "StatisticsGen/6", "Trainer/6"} <= line.folders()
    assert len(list(line.config.checkpoints_path.iterdir())) == 3


def test_a_rejected_candidate_goes_with_its_run(line: Any) -> None:
    line.cycle(6, "rejected", base=5)
    for span in (7, 8):
        line.cycle(span, base=5)
    collect(line)
    assert "Trainer/6" not in line.folders()


def test_what_a_killed_run_staged_goes_unless_the_run_goes_on(line: Any) -> None:
    version = line.cycle(6, None, base=5)
    (line.config.serving_path / f".hidden-{version}").mkdir()
    (line.config.serving_path / ".hidden-77").mkdir()
    collect(line)
    assert hidden_versions(line.config.serving_path) == [version]


def test_a_visible_version_that_the_ledger_does_not_know_is_left_to_its_owner(line: Any) -> None:
    (line.config.serving_path / "0").mkdir()
    collect(line)
    assert versions(line.config.serving_path) == [0, 3, 4, 5]


def test_statistics_before_a_late_span_stay(line: Any) -> None:
    late = SpanRef(span=2, version=2, digest="late")
    line.ledger.register_spans([SpanArrival(ref=late, num_examples=1)])
    collect(line)
    assert "StatisticsGen/1" in line.folders()
    assert "StatisticsGen/2" not in line.folders()


def test_what_the_next_plans_read_is_there(line: Any) -> None:
    # Blocked spans leave runs behind that are newer than the last buffer.
    for span in (6, 7, 8):
        line.cycle(span, "blocked")
    late = SpanRef(span=2, version=2, digest="late")
    line.ledger.register_spans([SpanArrival(ref=late, num_examples=1)])
    collect(line)
    champion = line.ledger.champion()
    read = [
        champion.model_uri,
        champion.transform_graph_uri,
        champion.statistics_uri,
        line.ledger.newest_replay().replay_uri,
        *(line.ledger.newest_statistics(before=span).statistics_uri for span in (2, 5, 9)),
    ]
    assert all(Path(uri).exists() for uri in read)


def test_leftovers_of_killed_attempts_go(line: Any) -> None:
    orphan = line.config.artifacts_path / "Trainer" / "model" / "999"
    notes = line.config.artifacts_path / "Trainer" / ".system" / "executor_execution" / "999"
    temporary = line.config.runs_path / "run-5" / ".tmp-abc"
    for folder in (orphan, notes, temporary):
        folder.mkdir(parents=True)
    kinds = {entry.path: entry.kind for entry in collect(line).doomed}
    assert (kinds[str(orphan)], kinds[str(notes)], kinds[str(temporary)]) == (LEFTOVER, NOTES, TEMPORARY)
    assert not any(folder.exists() for folder in (orphan, notes, temporary))


class _Kill(BaseException):
    pass


@pytest.mark.parametrize("step", ["mark_deleted", "remove", "_delete"])
@pytest.mark.parametrize("num_done", [0, 1], ids=["before", "after-one"])
def test_a_kill_leaves_no_ghost_and_the_next_collection_finishes(
    line: Any, step: str, num_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = getattr(collection, step), list[Any]()

    def killed(*arguments: Any) -> None:
        if len(calls) == num_done:
            raise _Kill
        calls.append(arguments)
        original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(collection, step, killed)
        try:
            collect(line)
        except _Kill:
            present = {model.version for model in line.ledger.models() if model.removed_at is None}
            assert all(Path(line.ledger.model(version).model_uri).exists() for version in present)
            with opened_store(line.config.metadata_url) as store:
                assert all(Path(uri).exists() for uri in present_artifacts(store))
    collect(line)
    assert line.folders() == KEPT
    assert find_garbage(line.config, line.ledger) == Garbage()


def test_a_model_that_was_pinned_meanwhile_stops_the_collection(line: Any) -> None:
    garbage = find_garbage(line.config, line.ledger)
    line.ledger.pin(2)
    before = files_below(line.config.root_path)
    with pytest.raises(LedgerError, match="Model version 2 cannot be removed: it is pinned"):
        remove_garbage(line.config, line.ledger, garbage)
    assert files_below(line.config.root_path) == before


def test_a_link_that_leads_elsewhere_is_refused_before_anything_changes(line: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "7").mkdir(parents=True)
    (line.config.artifacts_path / "Trainer" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="leaves its root"):
        find_garbage(line.config, line.ledger)


def test_a_root_that_the_runs_did_not_have_is_refused(line: Any, tmp_path: Path) -> None:
    shutil.copytree(line.config.root_path, tmp_path / "moved")
    moved = line.config.model_copy(update={"root": str(tmp_path / "moved")})
    with (
        Ledger.open(moved.ledger_url, moved.name) as ledger,
        pytest.raises(LedgerError, match=r"what is still needed cannot be told.*Correct `root`"),
    ):
        find_garbage(moved, ledger)


def test_a_file_that_cannot_be_deleted_now_is_left_for_later(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        patched.setattr(collection, "remove", lambda *_: None)
        with pytest.raises(UnavailableError, match=r"could not be removed: .*run `perennial model gc` again"):
            collect(line)
    collect(line)
    assert line.folders() == KEPT


def test_a_pipeline_without_a_run_has_nothing_to_collect(pipeline: Any) -> None:
    assert collect(pipeline) == Garbage()


def test_the_moment_of_removal_is_kept(line: Any) -> None:
    line.clock.advance(2 * 86_400)
    collect(line)
    assert line.ledger.model(1).removed_at == line.clock.now()
