"""What `perennial status` prints, for people and for scripts."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.status import status
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, RunStart, SpanOutcome
from schemas.spans import SpanRef

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"

Invoke = Callable[..., str]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """Run the command on a root below `tmp_path`, and return what it printed."""

    def run(*arguments: str) -> str:
        words = ["--config", str(CONFIG), "--set", f"root={tmp_path}/root", *arguments]
        result = CliRunner().invoke(status, words, catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return run


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    """A ledger with history, a pushed, a rejected, a failed and a waiting span."""
    with Ledger.open(f"sqlite:///{tmp_path}/root/ledger.sqlite", "flights") as ledger:
        refs = [SpanRef(span=span, version=1, digest=f"{span:064x}") for span in range(7, 12)]
        ledger.register_spans(dict.fromkeys(refs, 6000))
        model = ModelRecord(
            version=ledger.reserve_version(),
            run_id="run-8",
            span=8,
            span_version=1,
            model_uri="/model",
            model_digest="a" * 64,
            training_digest="b" * 64,
            transform_graph_uri="/transform",
            transform_span=8,
            statistics_uri="/statistics",
            model_shape="c" * 64,
            pushed_at=datetime(2013, 3, 1, tzinfo=UTC),
        )
        ledger.record_model(model)
        ledger.promote(None, model.version)
        ledger.finish_history(refs[:1], run_id="run-8", reason="in the window of span 8")
        ledger.finish_span(
            refs[1],
            SpanOutcome(
                state="pushed",
                run_id="run-8",
                drift_verdict="pass",
                candidate_auc=0.71239,
                pushed_version=1,
                seconds=31.26,
            ),
        )
        rejected = SpanOutcome(
            state="rejected",
            run_id="run-9",
            drift_verdict="warn",
            candidate_auc=0.7,
            champion_auc=0.71,
            prequential={"auc": 0.6912, "binary_crossentropy": 0.5},
            seconds=12.0,
            reason="AUC 0.70 is below the champion's 0.71 [change].",
        )
        ledger.finish_span(refs[2], rejected)
        ledger.start_run(RunStart(run_id="run-10", span=10, version=1, trigger="next", plan="{}"))
        ledger.finish_run("run-10", "failed", error="Data error: Split-eval is missing.")
        yield ledger


def test_without_a_ledger_it_says_what_to_do_and_makes_none(invoke: Invoke, tmp_path: Path) -> None:
    assert "has no spans yet. Run `perennial ingest`" in invoke()
    assert json.loads(invoke("--json")) == {"champion": None, "spans": [], "prequential": None}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ledger")
def test_the_json_document_has_the_promised_keys(invoke: Invoke) -> None:
    document = json.loads(invoke("--json"))
    assert document["champion"] == {"version": 1, "span": 8}
    assert [span["state"] for span in document["spans"]] == ["trained", "pushed", "rejected", "arrived", "arrived"]
    assert document["spans"][1] == {
        "span": 8,
        "version": 1,
        "state": "pushed",
        "examples": 6000,
        "drift_verdict": "pass",
        "candidate_auc": 0.71239,
        "champion_auc": None,
        "prequential": None,
        "pushed_version": 1,
        "seconds": 31.26,
    }


@pytest.mark.usefixtures("ledger")
def test_the_table_fits_80_columns_and_says_why(invoke: Invoke) -> None:
    lines = invoke().splitlines()
    assert max(map(len, lines[:8])) <= 80
    assert any(line.split() == ["8", "1", "pushed", "6,000", "pass", "0.7124", "1", "31.3"] for line in lines)
    rejected = ["9", "1", "rejected", "6,000", "warn", "0.7000", "0.7100", "0.6912", "12.0"]
    assert any(line.split() == rejected for line in lines)
    assert "Span 9 was rejected: AUC 0.70 is below the champion's 0.71 [change]." in lines
    assert "Span 10 failed and will be tried again: Data error: Split-eval is missing." in lines
    assert "champion: version 1, trained for span 8" in lines
    assert lines[-1].startswith("before training on each span: ")
    assert "0.691" in lines[-1]
