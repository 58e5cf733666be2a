"""What a corrected span taints, on families small enough to draw, and on one line a thousand warm starts long."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from core.errors import LedgerError
from ledger.taint import History, taint_of
from schemas.ledger_records import ModelRecord, RunRecord, SpanRecord
from schemas.replay import Membership
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


class Rows:
    """Builds the rows of a ledger run by run; a run of span N pushes model version N."""

    def __init__(self, make_model: Callable[..., ModelRecord]) -> None:
        self.spans: list[SpanRecord] = []
        self.runs: list[RunRecord] = []
        self.models: list[ModelRecord] = []
        self._make_model = make_model

    def run(self, ref: SpanRef, *, base: int | None = None, outcome: str = "pushed", **reads: Any) -> None:
        run_id = f"run-{ref.span}-v{ref.version}"
        window: Sequence[SpanRef] = reads.pop("window", (ref,))
        plan = {
            "window": [joined.model_dump() for joined in window],
            "analysis_window": [] if base else [joined.model_dump() for joined in window],
            "initialisation": "warm" if base else "cold",
            "base": {"version": base} if base else None,
            "transform_graph_uri": "/graph/1" if base else None,
            "replay_uri": None,
            "why": ["what the rest of a plan says is no matter"],
            **reads,
        }
        self.runs.append(
            RunRecord.model_validate(
                {
                    "run_id": run_id,
                    "span": ref.span,
                    "version": ref.version,
                    "trigger": "next",
                    "plan": json.dumps(plan),
                    "outcome": outcome,
                    "started_at": NOON,
                }
            )
        )
        self.spans.append(
            SpanRecord.model_validate(
                {
                    **ref.model_dump(),
                    "state": outcome,
                    "run_id": run_id,
                    "num_examples": 10,
                    "statistics_uri": f"/statistics/{ref.span}-{ref.version}",
                    "replay_uri": f"/buffer/{ref.span}",
                    "updated_at": NOON,
                }
            )
        )
        if outcome == "pushed":
            is_analysed = plan["transform_graph_uri"] is None
            self.models.append(
                self._make_model(
                    len(self.models) + 1,
                    span=ref.span,
                    run_id=run_id,
                    base_version=base,
                    transform_graph_uri=f"/graph/{ref.span}" if is_analysed else plan["transform_graph_uri"],
                    statistics_uri=f"/window-statistics/{ref.span}" if is_analysed else "/window-statistics/1",
                )
            )

    def history(self, champion_version: int | None = None) -> History:
        return History(self.spans, self.runs, self.models, champion_version or len(self.models) or None)


@pytest.fixture
def rows(make_model: Callable[..., ModelRecord]) -> Rows:
    return Rows(make_model)


def test_everything_warm_started_through_a_span_is_tainted(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(2), base=1)
    rows.run(make_ref(3), base=2)
    rows.run(make_ref(4), base=3)
    taint = taint_of([make_ref(3)], rows.history())
    assert [(model.version, model.path, model.through, model.fate) for model in taint.models] == [
        (3, "window", "span 3 version 1", "kept"),
        (4, "base", "model version 3", "serving"),
    ]
    assert taint.champion_is_tainted
    assert taint.clean_ancestor is not None
    assert (taint.clean_ancestor.model.version, taint.clean_ancestor.replay_uri) == (2, "/buffer/2")
    assert taint.learned_since == (make_ref(3), make_ref(4))
    assert taint.transform_graphs == ()
    assert taint.statistics == ("/statistics/3-1",)


def test_a_bad_span_in_the_cold_window_leaves_no_clean_ancestor(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    rows.run(make_ref(2), window=(make_ref(1), make_ref(2)))
    rows.run(make_ref(3), base=1)
    taint = taint_of([make_ref(1)], rows.history())
    assert taint.clean_ancestor is None
    assert taint.learned_since == (make_ref(1), make_ref(2), make_ref(3))
    assert taint.transform_graphs == ("/graph/2",)
    assert taint.statistics == ("/window-statistics/2",)


def test_the_replay_buffer_carries_a_rejected_span_into_a_later_model(
    rows: Rows, make_ref: Callable[..., SpanRef]
) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(2), base=1, outcome="rejected", replay_uri="/buffer/1")
    rows.run(make_ref(3), base=1, replay_uri="/buffer/2")
    taint = taint_of([make_ref(2)], rows.history())
    assert [(model.version, model.path, model.through) for model in taint.models] == [(2, "replay", "/buffer/2")]
    assert [(buffer.uri, buffer.is_certain) for buffer in taint.replay_buffers] == [
        ("/buffer/2", False),
        ("/buffer/3", False),
    ]

    def membership_of(uri: str) -> Membership:
        members = {"/buffer/1": {}, "/buffer/2": {"2-1": 4}, "/buffer/3": {"2-1": 0, "3-1": 7}}[uri]
        return Membership(num_seen={}, members={"train": members, "eval": {}})

    exact = taint_of([make_ref(2)], rows.history(), membership_of)
    assert [(buffer.uri, buffer.is_certain) for buffer in exact.replay_buffers] == [("/buffer/2", True)]


def test_a_buffer_of_unknown_origin_may_hold_all_that_was_offered_before(
    rows: Rows, make_ref: Callable[..., SpanRef]
) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(2), base=1, replay_uri="/buffer/lost")
    rows.run(make_ref(3), base=1, replay_uri="/buffer/also-lost")
    history = rows.history()
    # Span 2 was offered by the very run that read the first of them, so only the second may hold it.
    assert [(model.version, model.through) for model in taint_of([make_ref(2)], history).models] == [
        (2, "span 2 version 1"),
        (3, "/buffer/also-lost"),
    ]
    assert [model.version for model in taint_of([make_ref(3)], history).models] == [3]
    assert taint_of([make_ref(9)], history).models == taint_of([], history).models == ()
    empty = Membership(num_seen={}, members={})
    assert [model.version for model in taint_of([make_ref(2)], history, lambda uri: empty).models] == [2]


def test_a_clean_cold_start_takes_no_tainted_buffer_into_the_repair(
    rows: Rows, make_ref: Callable[..., SpanRef]
) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(2), base=1, replay_uri="/buffer/1")
    rows.run(make_ref(3), replay_uri="/buffer/2")  # a cold start offers its span to the buffer, and learns from none
    rows.run(make_ref(4), base=3, replay_uri="/buffer/3")
    taint = taint_of([make_ref(2)], rows.history())
    assert [model.version for model in taint.models] == [2, 4]
    assert taint.clean_ancestor is not None
    assert (taint.clean_ancestor.model.version, taint.clean_ancestor.replay_uri) == (3, "/buffer/1")


def test_a_refresh_takes_the_taint_over_from_the_model_it_grows_from(
    rows: Rows, make_ref: Callable[..., SpanRef]
) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(2), base=1)
    rows.run(make_ref(3), base=2, transform_graph_uri=None, analysis_window=[make_ref(3).model_dump()])
    taint = taint_of([make_ref(2)], rows.history())
    assert taint.transform_graphs == ("/graph/3",)
    assert taint.statistics == ("/statistics/2-1",)


def test_each_model_says_what_became_of_it(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    for span in range(1, 5):
        rows.run(make_ref(span), base=span - 1 or None)
    rows.models[1] = rows.models[1].model_copy(update={"removed_at": NOON})
    taint = taint_of([make_ref(1)], rows.history(champion_version=3))
    assert [model.fate for model in taint.models] == ["kept", "removed", "serving", "hidden"]
    # What was removed can start nothing, clean or not.
    later = taint_of([make_ref(3)], rows.history(champion_version=3))
    assert later.clean_ancestor is not None
    assert later.clean_ancestor.model.version == 1
    assert later.learned_since == (make_ref(2), make_ref(3))


def test_another_version_of_the_span_is_clean(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    rows.run(make_ref(1))
    rows.run(make_ref(1, version=2), base=1)
    assert [model.version for model in taint_of([make_ref(1, version=2)], rows.history()).models] == [2]
    assert taint_of([make_ref(1, version=3)], rows.history()).models == ()
    assert taint_of([make_ref(1)], History([], [], [])).clean_ancestor is None


def test_a_line_a_thousand_deep(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    for span in range(1, 1001):
        rows.run(make_ref(span), base=span - 1 or None, replay_uri=f"/buffer/{span - 1}" if span > 1 else None)
    asked: list[str] = []
    taint = taint_of([make_ref(2)], rows.history(), asked.append)
    assert len(taint.models) == 999
    assert len(taint.learned_since) == 999
    # Every buffer is looked up once: the work grows with the line, not with its square.
    assert len(asked) == len(set(asked)) == 999


def test_a_plan_that_cannot_be_read_is_named(rows: Rows, make_ref: Callable[..., SpanRef]) -> None:
    rows.run(make_ref(1))
    rows.runs[0] = rows.runs[0].model_copy(update={"plan": "{"})
    with pytest.raises(LedgerError, match=r"The plan of run 'run-1-v1' cannot be read\. .*Restore the ledger"):
        taint_of([make_ref(1)], rows.history())
