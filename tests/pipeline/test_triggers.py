from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.policies import TriggerOptions
from pipeline.ticks import Running, TriggerView
from pipeline.triggers import tick
from schemas.ledger_records import SpanRecord, TriggerRequest

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
NEW = {"name": "new-span", "trigger": {"kind": "new_span"}}
MANUAL = {"name": "manual", "trigger": {"kind": "manual"}}
WEEKLY = {"name": "weekly", "trigger": {"kind": "cron", "expression": "0 3 * * 1"}}
LABELS = {"name": "labels", "trigger": {"kind": "labels_complete", "maturity_seconds": 3600}}


def at(hours: float) -> datetime:
    """A moment so many hours after Monday, 5 January 2026, 00:00 UTC."""
    return MONDAY + timedelta(hours=hours)


def options(*policies: dict[str, Any], **changes: Any) -> TriggerOptions:
    return TriggerOptions.model_validate({"policies": policies or (MANUAL, NEW), **changes})


def span(
    number: int, state: str = "arrived", *, version: int = 1, arrived: datetime = MONDAY, **fields: Any
) -> SpanRecord:
    key = {"span": number, "version": version, "digest": f"{number}-{version}", "num_examples": 10}
    return SpanRecord.model_validate({**key, "state": state, "arrived_at": arrived, "updated_at": arrived, **fields})


def view(*waiting: SpanRecord, **fields: Any) -> TriggerView:
    return TriggerView.model_validate({"waiting": waiting, "metric": "auc", "looked_at": MONDAY, **fields})


def running(number: int, *, started: datetime = MONDAY, action: str = "train") -> Running:
    return Running.model_validate(
        {"run_id": "r1", "span": span(number).ref, "policy": "new-span", "action": action, "started_at": started}
    )


def passed(*numbers: int, **fields: Any) -> tuple[SpanRecord, ...]:
    """Finished spans without a finding, newest first."""
    return tuple(span(number, **{"state": "pushed", "drift_verdict": "pass", **fields}) for number in numbers)


def test_nothing_waits():
    answer = tick(options(), view(), MONDAY)
    assert (answer.start, answer.skips, answer.next_wake, answer.waits_for) == (None, (), None, "No span waits.")


def test_the_oldest_span_runs_with_a_reason():
    start = tick(options(), view(span(8), span(7)), at(1)).start
    assert (start.policy, start.span.span, start.action, start.initialisation) == ("new-span", 7, "train", None)
    assert start.why == "Policy 'new-span': span 7 came at 2026-01-05 00:00:00 UTC."


def test_policies_that_fire_for_the_same_span_start_one_cycle():
    config = options({**NEW, "name": "a", "initialisation": "cold"}, {**NEW, "name": "b"})
    start = tick(config, view(span(7)), at(1)).start
    assert (start.policy, start.initialisation) == ("a", "cold")
    answer = tick(config, view(span(7), running=running(7)), at(1))
    assert answer.start is None
    assert answer.waits_for == "Run r1 of span 7 is running."


def test_the_first_model_learns_from_a_window():
    three = view(span(1), span(2), span(3), cold_spans=2)
    assert tick(options(), three, at(1)).start.span.span == 2
    assert tick(options(), view(span(1), cold_spans=8), at(1)).start.span.span == 1


def test_the_first_window_holds_no_span_whose_labels_are_not_mature():
    waiting = [
        span(1, label_complete_time=at(0)),
        span(2, label_complete_time=at(9)),
        span(3, label_complete_time=at(0)),
    ]
    assert tick(options(LABELS), view(*waiting, cold_spans=8), at(2)).start.span.span == 1


# --- cron ---


def test_cron_fires_once_for_all_that_waits():
    waiting = [span(7), span(8, arrived=at(2)), span(9, arrived=at(3.5))]
    before = tick(options(WEEKLY), view(*waiting[:2], looked_at=at(2.5)), at(2.9))
    assert (before.start, before.next_wake) == (None, at(3))
    assert before.waits_for == "Policy 'weekly' fires next at 2026-01-05 03:00:00 UTC."
    fired = tick(options(WEEKLY), view(*waiting[:2], looked_at=at(2.9)), at(3))
    assert (fired.start.span.span, fired.fired) == (7, {"weekly": at(3)})
    assert fired.start.why == "Policy 'weekly': it fired at 2026-01-05 03:00:00 UTC."
    # The rest of those that waited follow without another fire; what came later waits for the next.
    later = tick(options(WEEKLY), view(*waiting[1:], looked_at=at(3), fired={"weekly": at(3)}), at(4))
    assert (later.start.span.span, later.fired) == (8, {})
    last = tick(options(WEEKLY), view(waiting[2], looked_at=at(4), fired={"weekly": at(3)}), at(5))
    assert (last.start, last.next_wake) == (None, at(3) + timedelta(days=7))


def test_cron_fires_for_what_comes_until_it_is_looked_at():
    known = view(span(7, arrived=at(3.01)), looked_at=at(2.9))
    assert tick(options(WEEKLY), known, at(3.02)).start.span.span == 7


def test_cron_has_a_time_zone_with_daylight_saving():
    daily = {"name": "daily", "trigger": {"kind": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}}
    config = options(daily)

    def next_after(*moment: int) -> datetime | None:
        return tick(config, view(), datetime(*moment, tzinfo=UTC)).next_wake

    assert next_after(2026, 1, 5) == datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
    assert next_after(2026, 7, 5) == datetime(2026, 7, 5, 0, 30, tzinfo=UTC)
    # 02:30 does not exist on 29 March: the next time that does. It comes twice on 25 October: the first one counts.
    assert next_after(2026, 3, 29) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert next_after(2026, 10, 25) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_after(2026, 10, 25, 0, 30) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert next_after(2026, 10, 25, 1, 10) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_cron_does_not_fire_before_the_first_look():
    assert tick(options(WEEKLY), view(span(7), looked_at=None), at(30)).fired == {}


def test_cron_does_not_fire_twice_for_a_minute_when_the_clock_is_set_back():
    known = view(span(7, arrived=at(1)), looked_at=at(2), fired={"weekly": at(3)})
    assert tick(options(WEEKLY), known, at(3)).fired == {}


def test_fire_time_of_a_clock_years_ahead_does_not_silence_cron():
    known = view(span(7, arrived=at(1)), looked_at=at(2), fired={"weekly": at(24 * 365 * 20)})
    assert tick(options(WEEKLY), known, at(3)).fired == {"weekly": at(3)}


def test_clock_set_back_does_not_hold_up_what_cron_has_fired_for():
    known = view(span(8, arrived=at(2.5)), looked_at=at(3), fired={"weekly": at(3)})
    assert tick(options(WEEKLY), known, at(2.6)).start.span.span == 8


def test_span_stamped_by_a_clock_years_ahead_is_not_waited_for():
    known = view(span(8, arrived=at(24 * 365 * 20)), looked_at=at(2.9))
    assert tick(options(WEEKLY), known, at(3)).start.span.span == 8


def test_forward_jump_fires_once():
    hourly = {"name": "hourly", "trigger": {"kind": "cron", "expression": "0 * * * *"}}
    first = tick(options(hourly), view(span(7), span(8), looked_at=at(1)), at(1000))
    assert (first.fired, first.start.span.span) == ({"hourly": at(1000)}, 7)
    assert tick(options(hourly), view(span(8), looked_at=at(1000), fired=first.fired), at(1000.1)).fired == {}


# --- labels ---


@pytest.mark.parametrize(
    ("fields", "mature"),
    [
        ({"label_complete_time": at(5), "event_time_max": at(1)}, at(6)),
        ({"event_time_max": at(2)}, at(3)),
        ({}, at(1)),
        ({"arrived": at(9), "event_time_max": at(2)}, at(9)),
    ],
    ids=["label-complete time", "latest event", "arrival", "arrived late"],
)
def test_labels_must_be_mature(fields, mature):
    known = view(span(7, **fields))
    before = tick(options(LABELS), known, mature - timedelta(seconds=1))
    if mature != at(9):  # before it came it was not known
        assert (before.start, before.next_wake) == (None, mature)
        assert f"Span 7 is due at {mature:%Y-%m-%d %H:%M:%S} UTC by policy 'labels'." in before.waits_for
    start = tick(options(LABELS), known, mature).start
    assert start.span.span == 7
    assert start.why == f"Policy 'labels': the labels of span 7 are complete since {mature:%Y-%m-%d %H:%M:%S} UTC."


def test_immature_span_does_not_hold_up_a_mature_one():
    known = view(span(7, label_complete_time=at(100)), span(8, label_complete_time=at(0)))
    assert tick(options(LABELS), known, at(2)).start.span.span == 8


# --- drift and decay ---


@pytest.mark.parametrize(
    ("verdict", "fires"), [("pass", False), ("warn", False), ("cold_start", True), ("block", True)]
)
def test_drift_of_the_newest_finished_span(verdict, fires):
    drift = {"name": "drift", "trigger": {"kind": "drift", "severity": "cold_start"}, "initialisation": "cold"}
    finished = (span(6, "trained"), span(5, "pushed", drift_verdict=verdict), *passed(4))
    answer = tick(options(drift), view(span(7), finished=finished), at(1))
    assert (answer.start is not None) is fires
    if fires:
        assert answer.start.why == f"Policy 'drift': span 5 had drift verdict {verdict}."
        assert answer.start.initialisation == "cold"
    else:
        assert answer.waits_for == "Span 7 waits, and no policy fires for it."


@pytest.mark.parametrize(
    ("metric", "values", "fires"),
    [
        ("auc", [0.8, 0.8, 0.7, 0.7], True),
        ("auc", [0.8, 0.8, 0.8, 0.7], False),
        ("mean_squared_error", [0.8, 0.8, 0.7, 0.7], False),
        ("mean_squared_error", [0.7, 0.7, 0.8, 0.8], True),
    ],
    ids=["two in a row", "one", "lower is better", "higher is worse"],
)
def test_decay_of_the_headline_metric(metric, values, fires):
    decay = {"name": "decay", "trigger": {"kind": "decay", "max_decay": 0.05, "num_spans": 2, "window_spans": 2}}
    finished = tuple(span(n, "pushed", prequential={metric: value}) for n, value in reversed([*enumerate(values, 1)]))
    known = view(span(7), finished=finished, metric=metric)
    answer = tick(options(decay), known, at(1))
    assert (answer.start is not None) is fires
    if fires:
        assert "It has decayed" in answer.start.why
    fresh = tick(options(decay), known.model_copy(update={"line_start_span": 2}), at(1))
    assert fresh.start is None, "decay of the line before the last cold start counts no longer"


def test_shadow_retrains_on_the_newest_finished_span_once():
    shadow = {"name": "s", "trigger": {"kind": "drift", "severity": "warn"}, "select": "done", "action": "shadow"}
    finished = (span(9, "blocked", drift_verdict="block"), *passed(8, drift_verdict="warn"))
    known = view(finished=finished, last_full_training_span=3)
    start = tick(options(shadow), known, at(1)).start
    assert (start.action, start.span.span) == ("shadow", 8)
    assert tick(options(shadow), known.model_copy(update={"last_full_training_span": 8}), at(1)).start is None


def test_cron_shadow_takes_the_span_of_its_fire():
    shadow = {**WEEKLY, "select": "done", "action": "shadow"}
    known = view(finished=passed(8), looked_at=at(2))
    assert tick(options(shadow), known, at(2.5)).start is None
    assert tick(options(shadow), known, at(3)).start.span.span == 8


# --- selection ---


def test_latest_skips_those_before_it_with_the_reason_and_then_runs():
    config = options({**NEW, "select": "latest"})
    answer = tick(config, view(span(7), span(8), span(9)), at(1))
    assert answer.start is None
    assert [skip.span.span for skip in answer.skips] == [7, 8]
    assert {skip.reason for skip in answer.skips} == {"Policy 'new-span' selects the latest span, and span 9 has come."}
    assert tick(config, view(span(9)), at(1)).start.span.span == 9


# --- manual ---


def request(number: int | None = None, *, id: int = 1, initialisation: str | None = None) -> TriggerRequest:
    return TriggerRequest(id=id, span=number, initialisation=initialisation, requested_at=MONDAY)


def test_request_comes_first_and_waits_for_neither_interval_nor_budget_nor_gap():
    config = options(NEW, {**MANUAL, "initialisation": "warm"}, daily_compute_seconds=10)
    known = view(
        span(7), span(9), predecessors={9: 7}, requests=(request(9),), requested={9: span(9)},
        last_run_finished_at=at(1), compute_seconds_today=99,
    )  # fmt: skip
    start = tick(config, known, at(1)).start
    assert (start.policy, start.span.span, start.request_id, start.initialisation) == ("manual", 9, 1, "warm")
    assert start.why == "Request 1 asks for it."


def test_request_without_a_span_takes_the_next_one_and_its_own_initialisation():
    start = tick(options(), view(span(7), span(8), requests=(request(initialisation="cold"),)), at(1)).start
    assert (start.span.span, start.initialisation) == (7, "cold")


@pytest.mark.parametrize("state", ["quarantined", "skipped"])
def test_request_takes_up_a_span_that_nothing_learned_from(state):
    known = view(requests=(request(5),), requested={5: span(5, state)})
    assert tick(options(), known, at(1)).start.span.span == 5


@pytest.mark.parametrize(
    ("policies", "asked", "message"),
    [
        ((NEW,), request(5), "No policy has trigger 'manual'. Add one to triggers.policies, and ask again."),
        ((MANUAL,), request(6), "Span 6 has not come. Ask again when it has."),
        ((MANUAL,), request(5), "Span 5 version 1 is pushed already, and nothing is trained on twice."),
        ((MANUAL,), request(), "No span waits. Ask again when one has come."),
        (
            (MANUAL,),
            request(initialisation="hot"),
            "'hot' is unknown. Expected one of cold, warm, shrink_perturb, auto.",
        ),
        (({**MANUAL, "select": "done", "action": "shadow"},), request(), "No span has finished since the last full"),
    ],
)
def test_request_that_cannot_be_followed_is_taken_with_the_reason(policies, asked, message):
    answer = tick(options(*policies), view(requests=(asked,), requested={5: span(5, "pushed")}), at(1))
    assert answer.start is None
    assert [refusal.request_id for refusal in answer.refusals] == [1]
    assert message in answer.refusals[0].reason


def test_refused_request_does_not_hold_up_the_next_one():
    asked = (request(5), request(id=2))
    answer = tick(options(), view(span(7), requests=asked, requested={5: span(5, "pushed")}), at(1))
    assert [refusal.request_id for refusal in answer.refusals] == [1]
    assert answer.start.request_id == 2


@pytest.mark.parametrize("overlap", ["queue", "skip", "replace"])
def test_request_waits_while_a_cycle_runs(overlap):
    known = view(requests=(request(8),), requested={8: span(8)}, running=running(7))
    answer = tick(options(MANUAL, overlap=overlap), known, at(1))
    assert (answer.start, answer.refusals, answer.replace, answer.skips) == (None, (), None, ())


# --- minimum interval and budget ---


def test_minimum_interval_from_end_to_start():
    known = view(span(7), last_run_finished_at=at(1))
    answer = tick(options(), known, at(1) + timedelta(seconds=299))
    assert (answer.start, answer.next_wake) == (None, at(1) + timedelta(seconds=300))
    assert answer.waits_for == (
        "Span 7 waits until 2026-01-05 01:05:00 UTC: a cycle ended at 2026-01-05 01:00:00 UTC, "
        "and min_interval_seconds is 300."
    )
    assert tick(options(), known, at(1) + timedelta(seconds=300)).start is not None


def test_clock_set_back_does_not_lengthen_the_interval_to_hours():
    known = view(span(7), last_run_finished_at=at(9))
    assert tick(options(), known, at(1)).start is not None
    slightly = tick(options(), known, at(9) - timedelta(seconds=1))
    assert slightly.next_wake == at(9) + timedelta(seconds=300)


def test_budget_of_the_day_lets_spans_wait_for_the_next():
    config = options(daily_compute_seconds=3600)
    answer = tick(config, view(span(7), compute_seconds_today=3600), at(20))
    assert (answer.start, answer.next_wake) == (None, at(24))
    assert (
        "until 2026-01-06 00:00:00 UTC: 3600 s of cycles ran today, and daily_compute_seconds is 3600"
        in answer.waits_for
    )
    assert tick(config, view(span(7), compute_seconds_today=3599), at(20)).start is not None


# --- overlap ---


def test_queue_waits_for_the_running_cycle():
    answer = tick(options(), view(span(8, arrived=at(1)), running=running(7)), at(2))
    assert (answer.start, answer.skips, answer.replace) == (None, (), None)


def test_overlap_skip_drops_what_came_meanwhile_and_nothing_else():
    known = view(span(8, arrived=at(0)), span(9, arrived=at(1)), running=running(7, started=at(0.5)))
    answer = tick(options(overlap="skip"), known, at(2))
    assert [skip.span.span for skip in answer.skips] == [9]
    assert answer.skips[0].reason == "Policy 'new-span' fired for it while run r1 ran, and overlap is 'skip'."


def test_overlap_skip_leaves_what_another_policy_had_fired_for_before():
    mature_meanwhile = span(8, arrived=at(0), label_complete_time=at(0.5))
    known = view(mature_meanwhile, running=running(7, started=at(1)))
    assert [skip.span.span for skip in tick(options(LABELS, overlap="skip"), known, at(2)).skips] == [8]
    assert tick(options(LABELS, NEW, overlap="skip"), known, at(2)).skips == ()


def test_overlap_skip_drops_the_fire_of_cron_but_not_its_spans():
    known = view(span(8, arrived=at(1)), running=running(7, started=at(2)), looked_at=at(2.5))
    answer = tick(options(WEEKLY, overlap="skip"), known, at(3))
    assert (answer.fired, answer.skips) == ({}, ())
    assert answer.alerts == (
        "Policy 'weekly' did not fire at 2026-01-05 03:00:00 UTC, because run r1 ran, and overlap is 'skip'.",
    )


def test_overlap_replace_stops_the_running_cycle_for_a_newer_span():
    known = view(span(8, arrived=at(1)), running=running(7, started=at(0.5)))
    replace = tick(options(overlap="replace"), known, at(2)).replace
    assert (replace.run_id, replace.span.span) == ("r1", 7)
    assert replace.reason == "Policy 'new-span' fired for span 8 while run r1 ran, and overlap is 'replace'."


@pytest.mark.parametrize(
    ("waiting", "changes"),
    [
        (span(8, arrived=at(0.2)), {}),
        (span(6, arrived=at(1)), {}),
        (span(8, arrived=at(1)), {"running": running(7, started=at(0.5)).model_copy(update={"is_stopping": True})}),
        (span(8, arrived=at(1)), {"compute_seconds_today": 10}),
    ],
    ids=["waited before", "older span", "is stopping", "no budget for the newer"],
)
def test_overlap_replace_leaves_the_cycle(waiting, changes):
    known = view(waiting, **{"running": running(7, started=at(0.5)), **changes})
    answer = tick(options(overlap="replace", daily_compute_seconds=10), known, at(2))
    assert (answer.replace, answer.start, answer.skips) == (None, None, ())


@pytest.mark.parametrize(
    ("cycle", "newer"),
    [(running(7, started=at(0.5), action="shadow"), span(8, arrived=at(1))),
     (running(7, started=at(0.5)), span(7, version=2, arrived=at(1)))],
    ids=["shadow", "corrected span"],
)  # fmt: skip
def test_replaced_cycle_whose_span_is_not_skipped(cycle, newer):
    replace = tick(options(overlap="replace"), view(newer, running=cycle), at(2)).replace
    assert (replace.run_id, replace.span) == ("r1", None)


# --- adaptive frequency ---


def test_stable_data_is_scored_and_not_trained_on():
    config = options(adaptive={"stable_spans": 2})
    start = tick(config, view(span(7), finished=passed(6, 5)), at(1)).start
    assert (start.action, start.initialisation) == ("score", None)
    assert "It is scored and not trained on, since the last 2 spans passed without a finding." in start.why


@pytest.mark.parametrize(
    ("waiting", "fields"),
    [
        (span(7), {"finished": passed(6)}),
        (span(7), {"finished": (*passed(6, drift_verdict="warn"), *passed(5))}),
        (span(7), {"finished": passed(6, 5, 4, 3, state="skipped")}),
        (span(7), {"finished": passed(6, 5), "cold_spans": 8}),
        (span(5, version=2), {"finished": passed(6, 5)}),
        (span(7), {"finished": passed(6, 5), "requests": (request(),)}),
        (
            span(7),
            {"finished": tuple(passed(n, prequential={"auc": 0.7 if n == 6 else 0.8})[0] for n in range(6, 0, -1))},
        ),
    ],
    ids=["too few", "a finding", "max_skips", "no champion", "correction", "request", "decay"],
)
def test_what_is_trained_on_in_any_case(waiting, fields):
    config = options(adaptive={"stable_spans": 2, "max_skips": 3})
    assert tick(config, view(waiting, **fields), at(1)).start.action == "train"


# --- catch-up ---


@pytest.mark.parametrize(
    ("catch_up", "skipped", "fires"),
    [("all", [], True), ("latest", [8], True), ("none", [8, 9], False)],
)
def test_catch_up_after_downtime(catch_up, skipped, fires):
    waiting = [span(7, arrived=at(0)), span(8, arrived=at(20)), span(9, arrived=at(20))]
    known = view(*waiting, looked_at=at(1), has_just_started=True)
    answer = tick(options(WEEKLY, catch_up=catch_up), known, at(20))
    assert [skip.span.span for skip in answer.skips] == skipped
    assert bool(answer.fired) is fires
    assert (answer.start is not None) is (catch_up == "all")
    for skip in answer.skips:
        assert f"It came while no daemon ran, after 2026-01-05 01:00:00 UTC; catch_up is '{catch_up}'" in skip.reason
    if not fires:
        assert answer.alerts == (
            "Policy 'weekly' did not fire at 2026-01-05 03:00:00 UTC, because no daemon ran, and catch_up is 'none'.",
        )


@pytest.mark.parametrize(
    "fields",
    [{"has_just_started": False}, {"looked_at": None}, {"looked_at": at(20) - timedelta(seconds=30)}],
    ids=["was running", "never ran", "short restart"],
)
def test_nothing_to_catch_up_with(fields):
    known = view(span(8, arrived=at(20)), **{"looked_at": at(1), "has_just_started": True, **fields})
    assert tick(options(catch_up="none"), known, at(20)).start.span.span == 8


# --- gaps, late, broken and overdue spans ---


def test_gap_is_waited_for_then_reported_and_passed():
    known = view(span(8, arrived=at(1)), span(9, arrived=at(1.5)), predecessors={8: 5, 9: 8})
    before = tick(options(), known, at(1.9))
    assert (before.start, before.next_wake, before.alerts) == (None, at(2), ())
    assert before.waits_for == (
        "Span 8 is due at 2026-01-05 02:00:00 UTC by policy 'new-span': Spans 6 to 7 had not come."
    )
    after = tick(options(), known, at(2))
    assert after.start.span.span == 8
    assert after.alerts == (
        "Spans 6 to 7 had not come when span 8 had waited long enough. Span 8 goes on; what comes late is run then.",
    )


def test_span_behind_two_gaps_waits_for_the_later_end():
    known = view(span(8, arrived=at(1)), span(10, arrived=at(0.5)), predecessors={8: 5, 10: 8})
    answer = tick(options({**NEW, "select": "latest"}), known, at(1.9))
    assert (answer.skips, answer.next_wake) == ((), at(2))


def test_missing_span_that_comes_ends_the_wait_and_a_late_one_is_run():
    came = view(span(6, arrived=at(1)), span(7, arrived=at(1)), predecessors={6: 5, 7: 6})
    assert tick(options(), came, at(1)).start.span.span == 6
    late = view(span(6, arrived=at(9)), predecessors={6: 5}, finished=passed(9))
    assert tick(options(), late, at(9)).start.span.span == 6


def test_clock_set_back_does_not_lengthen_the_wait_for_a_gap():
    known = view(span(8, arrived=at(9)), predecessors={8: 5})
    assert tick(options(), known, at(1)).start.span.span == 8


def test_broken_span_is_reported_and_does_not_block_others_for_ever():
    newest = view(span(7), unusable={8: "Span 8 has no manifest."}, predecessors={7: 6})
    answer = tick(options(), newest, at(1))
    assert (answer.start.span.span, answer.alerts) == (7, ("Span 8 has no manifest.",))
    between = view(span(7), unusable={6: "Span 6 has no manifest."}, predecessors={7: 5})
    assert tick(options(), between, at(0.5)).start is None
    answer = tick(options(), between, at(1))
    assert answer.start.span.span == 7
    assert "Span 6 had not come (6 cannot be used) when span 7 had waited" in answer.alerts[0]


def test_overdue_span_is_reported_once_it_is():
    config = options(expected_every_seconds=3600)
    known = view(newest_span=7, newest_arrived_at=at(1))
    assert (tick(config, known, at(1.5)).alerts, tick(config, known, at(1.5)).next_wake) == ((), at(2))
    late = tick(config, known, at(2))
    assert late.next_wake is None
    assert late.alerts == (
        "Span 7 is the last that came; another was expected by 2026-01-05 02:00:00 UTC. Look at what writes them.",
    )
    assert tick(config, known, at(99)).alerts == late.alerts
