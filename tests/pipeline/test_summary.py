"""The pipeline's summary reads each decision once, and again when it has changed."""

import os
from typing import Any

import pytest

from pipeline.decision import read_decision, write_decision
from pipeline.summary import write_pipeline_summary


@pytest.fixture
def written(small: Any) -> Any:
    """A pipeline of three cycles, whose summary was written once."""
    controller = small.controller()
    for _ in range(3):
        controller.run_next()
    write_pipeline_summary(small.config, small.ledger)
    return small


def _decision_path(small: Any, span: int) -> Any:
    (path,) = [run.decision_path for run in small.ledger.runs() if run.span == span]
    return small.config.runs_path.joinpath(path)


def test_an_older_decision_that_did_not_change_is_not_read_again(written: Any) -> None:
    path = _decision_path(written, 2)
    status = path.stat()
    path.write_text("not read", encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    before = written.config.summary_path.stat().st_mtime_ns
    write_pipeline_summary(written.config, written.ledger)
    assert written.config.summary_path.stat().st_mtime_ns > before


def test_a_decision_that_changed_is_read_again(written: Any) -> None:
    path = _decision_path(written, 2)
    changed = read_decision(path).model_copy(update={"first_model_auc": 0.123456})
    write_decision(written.config.runs_path, changed)
    assert "0.123456" not in written.config.summary_path.read_text(encoding="utf-8")
    write_pipeline_summary(written.config, written.ledger)
    assert "0.123456" in written.config.summary_path.read_text(encoding="utf-8")


def test_a_decision_that_is_gone_leaves_a_gap(written: Any) -> None:
    for span in (2, 4):
        _decision_path(written, span).unlink()
    write_pipeline_summary(written.config, written.ledger)
    assert written.config.summary_path.exists()


def test_only_the_newest_spans_are_shown(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = written.config.summary_path
    assert "The newest" not in page.read_text(encoding="utf-8")
    monkeypatch.setattr("pipeline.summary.MAX_SHOWN_SPANS", 2)
    write_pipeline_summary(written.config, written.ledger)
    assert "The newest 2 spans; <code>perennial status --json</code> has the" in page.read_text(encoding="utf-8")
