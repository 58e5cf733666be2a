"""What the ledger remembers, and what it refuses."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, LedgerError
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, RunStart, SpanOutcome
from schemas.spans import SpanRef

OpenLedger = Callable[..., Ledger]
MakeRef = Callable[..., SpanRef]
MakeModel = Callable[..., ModelRecord]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def run_of(ref: SpanRef, run_id: str = "run-1") -> RunStart:
    return RunStart(run_id=run_id, span=ref.span, version=ref.version, trigger="manual", plan='{"why": []}')


def test_registering_twice_keeps_what_is_known(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    assert ledger.register_spans({make_ref(1): 10, make_ref(2): 20}) == 2
    ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1"))
    assert ledger.register_spans({make_ref(1): 10, make_ref(2): 20, make_ref(3): 30}) == 1
    assert [(r.span, r.state, r.num_examples) for r in ledger.spans()] == [
        (1, "pushed", 10),
        (2, "arrived", 20),
        (3, "arrived", 30),
    ]


def test_a_correction_is_a_row_of_its_own(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    ledger.register_spans({make_ref(2): 5, make_ref(1, version=2): 5, make_ref(1): 5, make_ref(1, digest="d"): 5})
    assert [(r.span, r.version) for r in ledger.spans()] == [(1, 1), (1, 1), (1, 2), (2, 1)]
    ledger.finish_span(make_ref(1), SpanOutcome(state="rejected", run_id="run-1"))
    assert ledger.span(make_ref(1, version=2)).state == "arrived"
    assert ledger.span(make_ref(1, digest="d")).state == "arrived"


def test_everything_survives_reopening(open_ledger: OpenLedger, make_ref: MakeRef, make_model: MakeModel) -> None:
    first = open_ledger()
    outcome = SpanOutcome(
        state="pushed",
        run_id="run-1",
        drift_verdict="warn",
        candidate_auc=0.7,
        champion_auc=0.69,
        pushed_version=1,
        statistics_uri="/statistics/1",
        replay_uri="/replay/1",
        prequential={"auc": 0.68, "binary_crossentropy": 0.5},
        seconds=12.5,
        reason="AUC 0.7000 against 0.6900",
    )
    first.register_spans({make_ref(8): 100})
    first.start_run(run_of(make_ref(8)))
    first.finish_span(make_ref(8), outcome)
    first.finish_run("run-1", "pushed", decision_path="/runs/run-1/decision.json")
    first.record_model(make_model(first.reserve_version()))
    assert first.promote(None, 1)
    first.close()

    second = open_ledger()
    record = second.span(make_ref(8))
    assert record.model_dump(include=set(SpanOutcome.model_fields)) == outcome.model_dump()
    assert record.updated_at == NOON
    assert second.runs() == [second.latest_run(make_ref(8))]
    assert second.runs()[0].model_dump(exclude=set(RunStart.model_fields)) == {
        "outcome": "pushed",
        "error": None,
        "started_at": NOON,
        "finished_at": NOON,
        "decision_path": "/runs/run-1/decision.json",
    }
    champion = second.champion()
    assert champion is not None
    assert champion.model_dump() == make_model(1).model_dump() | {"moved_at": NOON}
    assert second.reserve_version() == 2


def test_pipelines_in_one_database_do_not_meet(
    open_ledger: OpenLedger, make_ref: MakeRef, make_model: MakeModel
) -> None:
    flights, risk = open_ledger("flights"), open_ledger("risk")
    for ledger, num_examples in ((flights, 5), (risk, 6)):
        assert ledger.register_spans({make_ref(1): num_examples}) == 1
        assert ledger.reserve_version() == 1
        ledger.start_run(run_of(make_ref(1)))
        ledger.record_model(make_model(1))
    assert flights.promote(None, 1)
    risk.finish_span(make_ref(1), SpanOutcome(state="blocked", run_id="run-1"))
    risk.finish_run("run-1", "blocked")
    assert risk.champion() is None
    assert flights.span(make_ref(1)).state == "arrived"
    assert flights.runs()[0].outcome is None


def test_a_span_is_consumed_once(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    ledger.register_spans({make_ref(1): 10})
    ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1"))
    assert ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1", seconds=1.0)).seconds == 1.0
    with pytest.raises(LedgerError, match=r"Span 1 version 1 is already pushed.*'run-2' after run_id='run-1'"):
        ledger.finish_span(make_ref(1), SpanOutcome(state="rejected", run_id="run-2"))
    assert ledger.span(make_ref(1)).state == "pushed"


def test_a_span_finished_without_a_run_is_consumed_too(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    ledger.register_spans({make_ref(1): 10})
    ledger.finish_span(make_ref(1), SpanOutcome(state="blocked"))
    with pytest.raises(LedgerError, match="already blocked"):
        ledger.finish_span(make_ref(1), SpanOutcome(state="pushed"))


def test_history_marks_only_spans_that_no_run_finished(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    ledger.register_spans({make_ref(span): 10 for span in range(1, 5)})
    ledger.finish_span(make_ref(2), SpanOutcome(state="rejected", run_id="run-1", reason="no better"))
    window = [make_ref(span) for span in range(1, 4)]
    assert ledger.finish_history(window, run_id="run-2", reason="in the window of span 4") == 2
    assert ledger.finish_history([], run_id="run-2", reason="in the window of span 4") == 0
    assert [(r.state, r.run_id, r.reason) for r in ledger.spans()] == [
        ("trained", "run-2", "in the window of span 4"),
        ("rejected", "run-1", "no better"),
        ("trained", "run-2", "in the window of span 4"),
        ("arrived", None, None),
    ]


def test_the_latest_run_of_a_span_is_the_one_that_started_last(open_ledger: OpenLedger, make_ref: MakeRef) -> None:
    ledger = open_ledger()
    for run_id, ref in (("a", make_ref(1)), ("b", make_ref(1)), ("c", make_ref(1, version=2)), ("d", make_ref(2))):
        ledger.start_run(run_of(ref, run_id))
    latest = ledger.latest_run(make_ref(1))
    assert latest is not None
    assert latest.run_id == "b"
    assert latest.outcome is None
    assert ledger.latest_run(make_ref(3)) is None
    assert [run.run_id for run in ledger.runs()] == ["a", "b", "c", "d"]


def test_promote_moves_only_from_the_expected_champion(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = open_ledger()
    for _ in range(3):
        ledger.record_model(make_model(ledger.reserve_version()))
    assert not ledger.promote(1, 2)
    assert ledger.champion() is None
    assert ledger.promote(None, 1)
    assert not ledger.promote(None, 2)
    assert ledger.promote(1, 3)
    assert not ledger.promote(1, 2)
    champion = ledger.champion()
    assert champion is not None
    assert champion.version == 3
    assert [model.version for model in ledger.models()] == [1, 2, 3]


def test_recording_a_model_again_changes_nothing(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = open_ledger()
    model = make_model(ledger.reserve_version())
    ledger.record_model(model)
    ledger.record_model(model)
    assert ledger.models() == [model]
    with pytest.raises(LedgerError, match="version 1 is already recorded, made by run 'run-1'"):
        ledger.record_model(make_model(1, run_id="run-9"))
    assert ledger.models() == [model]


def test_unknown_names_are_refused(open_ledger: OpenLedger, make_ref: MakeRef, make_model: MakeModel) -> None:
    ledger = open_ledger()
    with pytest.raises(LedgerError, match=r"no model version 4. Expected a pushed model, but there is none yet"):
        ledger.model(4)
    with pytest.raises(LedgerError, match=r"version 1 was never reserved. Expected at most 0"):
        ledger.record_model(make_model(1))
    ledger.record_model(make_model(ledger.reserve_version()))
    with pytest.raises(LedgerError, match=r"no model version 4. Expected a version from 1 to 1"):
        ledger.promote(1, 4)
    with pytest.raises(LedgerError, match=r"Span 1 version 1 .* is not in the ledger of 'flights'"):
        ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1"))
    with pytest.raises(LedgerError, match="Run 'run-1' was never started"):
        ledger.finish_run("run-1", "failed", error="Data error: no file")
    ledger.start_run(run_of(make_ref(1)))
    with pytest.raises(LedgerError, match="Run 'run-1' was started before"):
        ledger.start_run(run_of(make_ref(1)))


def test_looking_does_not_make_a_ledger(ledger_url: str, open_ledger: OpenLedger, tmp_path: Path) -> None:
    assert not Ledger.exists(ledger_url)
    assert list(tmp_path.iterdir()) == []
    open_ledger()
    assert Ledger.exists(ledger_url)
    assert Ledger.exists("sqlite://")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_text("span,state\n1,pushed\n" * 100)
    with pytest.raises(
        LedgerError, match=r"ledger at sqlite:///.*ledger.sqlite cannot be used: file is not a database"
    ):
        Ledger.open(f"sqlite:///{file}", "flights")
    assert file.read_text() == "span,state\n1,pushed\n" * 100


def test_a_truncated_ledger_is_reported(open_ledger: OpenLedger, make_ref: MakeRef, ledger_url: str) -> None:
    ledger = open_ledger()
    ledger.register_spans({make_ref(span): 10 for span in range(200)})
    ledger.close()
    file = Path(ledger_url.removeprefix("sqlite:///"))
    file.write_bytes(file.read_bytes()[: 3 * 4096])
    with pytest.raises(LedgerError, match="restore it from a backup"):
        open_ledger().spans()


def test_a_table_of_another_shape_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE pipelines (name TEXT)")
    connection.close()
    with pytest.raises(LedgerError, match=r"has no column named pipeline|no such column"):
        Ledger.open(f"sqlite:///{file}", "flights")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"folder .*/file/below' cannot be made: Not a directory"):
        Ledger.open(f"sqlite:///{tmp_path}/file/below/ledger.sqlite", "flights")


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match="unable to open database file"):
        Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", "flights")


@pytest.mark.parametrize("url", ["no url", "oracel://host/db"], ids=["no-url", "unknown-database"])
def test_a_wrong_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"The ledger URL '.*' cannot be used"):
        Ledger.open(url, "flights")


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.one_of(st.none(), st.integers(1, 4)), st.integers(1, 4)), max_size=12),
)
def test_promote_follows_the_rule_of_compare_and_swap(steps: list[tuple[int | None, int]]) -> None:
    fields = {"span": 1, "span_version": 1, "model_uri": "u", "model_digest": "d", "training_digest": "d"}
    more = {"transform_graph_uri": "t", "transform_span": 1, "statistics_uri": "s", "model_shape": "m"}
    with Ledger.open("sqlite://", "flights") as ledger:
        for version in range(1, 5):
            ledger.reserve_version()
            ledger.record_model(
                ModelRecord.model_validate({**fields, **more, "version": version, "run_id": "r", "pushed_at": NOON})
            )
        champion: int | None = None
        for expected, version in steps:
            assert ledger.promote(expected, version) == (expected == champion)
            champion = version if expected == champion else champion
            stored = ledger.champion()
            assert (stored.version if stored else None) == champion


def test_a_ledger_of_an_earlier_version_gets_the_columns_it_lacks(tmp_path: Path, make_ref: MakeRef) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(f"sqlite:///{path}", "flights") as ledger:
        ledger.register_spans({make_ref(1): 10})
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE spans DROP COLUMN replay_uri")
        connection.execute("ALTER TABLE models DROP COLUMN line_length")
    connection.close()
    with Ledger.open(f"sqlite:///{path}", "flights") as ledger:
        assert ledger.span(make_ref(1)).state == "arrived"
        ledger.finish_span(make_ref(1), SpanOutcome(state="pushed", run_id="run-1", replay_uri="/replay/1"))
        assert ledger.span(make_ref(1)).replay_uri == "/replay/1"
