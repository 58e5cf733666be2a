"""What people asked for, and when policies fired."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from core.clock import ManualClock
from ledger.ledger import Ledger

OpenLedger = Callable[..., Ledger]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def test_requests_are_taken_once_and_in_order(open_ledger: OpenLedger, clock: ManualClock) -> None:
    ledger = open_ledger()
    first = ledger.request_run()
    clock.advance(1)
    second = ledger.request_run(span=8, initialisation="cold")
    assert (second.span, second.initialisation) == (8, "cold")
    assert ledger.waiting_requests() == [first, second]
    assert ledger.take_request(first.id)
    assert not ledger.take_request(first.id)
    assert not ledger.take_request(second.id + 1)
    assert ledger.waiting_requests() == [second]


def test_requests_of_another_pipeline_are_not_ours(open_ledger: OpenLedger) -> None:
    request = open_ledger("risk").request_run()
    assert open_ledger().waiting_requests() == []
    assert not open_ledger().take_request(request.id)


def test_when_a_policy_fired_last(open_ledger: OpenLedger) -> None:
    ledger, later = open_ledger(), NOON + timedelta(microseconds=1)
    assert ledger.fired() == {}
    ledger.set_fired("nightly", NOON)
    ledger.set_fired("Nightly", NOON)
    ledger.set_fired("nightly", later)
    ledger.set_fired("nightly", later)
    assert ledger.fired() == {"nightly": later, "Nightly": NOON}
