"""Which repair a correction is due for, read from a real ledger; the spans' own files are not there."""

from dataclasses import replace
from typing import Any

import pytest

from core.files import write_text_atomically
from ingest.manifests import read_manifest
from ingest.span_writer import write_manifest
from ledger.taint import taint_of
from pipeline.arrivals import Discovery
from pipeline.corrections import find_repair, pending_repairs, read_history, read_membership, repair_for
from schemas.replay import MEMBERSHIP_FILE, Membership
from schemas.spans import span_folder


@pytest.fixture
def trained(small: Any) -> Any:
    """The small pipeline after three cycles: a cold start on spans 1 and 2, warm ones on 3 and 4."""
    controller = small.controller()
    for _ in range(3):
        controller.run_next()
    return small


def correct(small: Any, span: int, version: int = 2, text: str = "corrected") -> Any:
    ref = small.add_span(span, version, text)
    Discovery(small.config).register(small.ledger)
    return ref


def test_a_correction_of_what_the_champion_learned_is_due_for_a_repair(trained: Any) -> None:
    ref = correct(trained, 4)
    repair = find_repair(trained.ledger, trained.config, ref)
    assert repair is not None
    assert repair.kind == "rerun"
    assert "how much it changes cannot be told" in repair.why
    assert repair.request is not None
    assert repair.request.base == trained.ledger.models()[1]
    assert repair.request.window == (ref,)
    assert pending_repairs(trained.ledger, trained.config) == (repair,)


def test_the_repair_learns_the_newest_versions_of_all_since(trained: Any) -> None:
    ref = correct(trained, 3)
    repair = find_repair(trained.ledger, trained.config, ref)
    assert repair is not None
    assert repair.request is not None
    assert [(span.span, span.version) for span in repair.request.window or ()] == [(4, 1), (3, 2)]


def test_a_rerun_takes_the_ancestors_buffer_if_it_is_still_there(trained: Any, tmp_path: Any) -> None:
    ref = correct(trained, 3)
    history = read_history(trained.ledger)
    kept = [row.model_copy(update={"replay_uri": f"{tmp_path}/replay-{row.span}"}) for row in history.spans]
    history = replace(history, spans=kept)
    taint = taint_of([row.ref for row in kept if row.span == 3 and row.version == 1], history)
    for name, expected in (("replay-4", None), ("replay-2", f"{tmp_path}/replay-2")):
        (tmp_path / name).mkdir()
        repair = repair_for(taint, history, trained.config, ref)
        assert repair is not None
        assert repair.request is not None
        assert repair.request.replay_uri == expected


def test_a_correction_in_the_cold_window_leaves_only_a_cold_start(trained: Any) -> None:
    ref = correct(trained, 1)
    repair = find_repair(trained.ledger, trained.config, ref)
    assert repair is not None
    assert repair.kind == "cold_start"
    # Two spans: the correction, and the newest that the champion learned from, which a cold start must not forget.
    assert [(span.span, span.version) for span in repair.request.window] == [(4, 1), (1, 2)]


def test_a_correction_with_the_same_files_changes_nothing(trained: Any) -> None:
    spans_root = trained.config.spans_path
    same = read_manifest(spans_root, 4, 1).model_copy(update={"version": 2})
    folder = span_folder(spans_root, 4, 2)
    folder.mkdir()
    write_manifest(folder, same)
    Discovery(trained.config).register(trained.ledger)
    repair = find_repair(trained.ledger, trained.config, same.ref)
    assert repair is not None
    assert repair.kind == "ignore"
    assert repair.why.startswith("Span 4 version 2 changes 0.00% of what the champion learned from (0 examples added")


def test_the_newest_buffer_stays_the_newest_when_an_old_row_is_learned_from_again(small: Any) -> None:
    small.dag.words = {3: "rejected", 5: "cold_start"}
    small.add_span(5)
    # Every step takes a second, as it does outside of tests.
    window = small.config.window.model_copy(update={"cold_spans": 3})
    first, later = (
        small.controller(step=lambda name: small.clock.advance(1), **changes) for changes in ({}, {"window": window})
    )
    for _ in range(3):
        first.run_next()
    decision = later.run_next()
    assert [ref.span for ref in decision.plan.window] == [3, 4, 5]
    assert small.states()[3] == "trained"
    assert small.ledger.newest_replay().replay_uri == str(small.config.artifacts_path / "replay" / "5")


def test_nothing_is_due_without_a_correction(trained: Any) -> None:
    first = trained.ledger.spans()[0].ref
    assert find_repair(trained.ledger, trained.config, first) is None
    assert pending_repairs(trained.ledger, trained.config) == ()
    correct(trained, 5, version=2)
    assert pending_repairs(trained.ledger, trained.config) == ()


def test_a_correction_of_what_nobody_learned_is_planned_as_usual(trained: Any) -> None:
    trained.dag.words[5] = "rejected"
    trained.add_span(5)
    trained.controller().run_next()
    ref = correct(trained, 5)
    assert find_repair(trained.ledger, trained.config, ref) is None


def test_without_a_champion_there_is_nothing_to_repair(small: Any) -> None:
    Discovery(small.config).register(small.ledger)
    assert find_repair(small.ledger, small.config, correct(small, 2)) is None


def test_what_would_be_done_about_a_bad_span_is_told_before_it_is_corrected(trained: Any) -> None:
    history = read_history(trained.ledger)
    bad = trained.ledger.spans()[-1].ref
    repair = repair_for(taint_of([bad], history), history, trained.config, bad)
    assert repair is not None
    assert (repair.kind, repair.correction) == ("rerun", bad)


def test_membership_is_read_where_it_can_be(tmp_path: Any) -> None:
    membership = Membership(num_seen={"train": 9}, members={"train": {"1-1": 4}})
    write_text_atomically(tmp_path / MEMBERSHIP_FILE, membership.model_dump_json())
    assert read_membership(str(tmp_path)) == membership
    assert read_membership(str(tmp_path / "gone")) is None
    (tmp_path / MEMBERSHIP_FILE).write_text("{")
    assert read_membership(str(tmp_path)) is None
