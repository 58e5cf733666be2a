"""Versions, pushed models and the champion pointer."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from core.clock import ManualClock
from core.errors import LedgerError
from ledger.ledger import Ledger
from schemas.ledger_records import ChampionMove, ModelRecord

OpenLedger = Callable[..., Ledger]
MakeModel = Callable[..., ModelRecord]

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def with_models(ledger: Ledger, make_model: MakeModel, num_models: int) -> Ledger:
    for _ in range(num_models):
        ledger.record_model(make_model(ledger.reserve_version()))
    return ledger


def test_promote_moves_only_from_the_expected_champion(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = with_models(open_ledger(), make_model, 3)
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


def test_promoting_the_champion_again_is_no_move(
    open_ledger: OpenLedger, make_model: MakeModel, clock: ManualClock
) -> None:
    ledger = with_models(open_ledger(), make_model, 1)
    assert ledger.promote(None, 1, run_id="run-1")
    clock.advance(60)
    assert ledger.promote(None, 1, run_id="run-1")
    champion = ledger.champion()
    assert champion is not None
    assert champion.moved_at == NOON
    assert len(ledger.champion_moves()) == 1


def test_every_move_of_the_champion_is_kept(open_ledger: OpenLedger, make_model: MakeModel, clock: ManualClock) -> None:
    ledger = with_models(open_ledger(), make_model, 2)
    ledger.promote(None, 1, run_id="run-1")
    ledger.promote(1, 2, run_id="run-2")
    clock.advance(60)
    ledger.promote(2, 1, by="rollback", reason="version 2 is slow")
    later = clock.now()
    assert ledger.champion_moves() == [
        ChampionMove(version=1, previous=None, by="cycle", run_id="run-1", at=NOON),
        ChampionMove(version=2, previous=1, by="cycle", run_id="run-2", at=NOON),
        ChampionMove(version=1, previous=2, by="rollback", reason="version 2 is slow", at=later),
    ]


def test_recording_a_model_again_changes_nothing(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = open_ledger()
    model = make_model(ledger.reserve_version(), line_start_span=8, newest_span=8)
    ledger.record_model(model)
    ledger.pin(1)
    ledger.record_model(model)
    assert ledger.models() == [model.model_copy(update={"is_pinned": True})]
    with pytest.raises(LedgerError, match="version 1 is already recorded, made by run 'run-1'"):
        ledger.record_model(make_model(1, run_id="run-9"))
    assert ledger.model(1).run_id == "run-1"


def test_a_pin_goes_on_and_off(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = with_models(open_ledger(), make_model, 2)
    ledger.pin(2)
    ledger.pin(2)
    assert [model.is_pinned for model in ledger.models()] == [False, True]
    ledger.unpin(2)
    assert not ledger.model(2).is_pinned
    with pytest.raises(LedgerError, match="no model version 9"):
        ledger.pin(9)


def test_a_removed_model_is_never_promoted(open_ledger: OpenLedger, make_model: MakeModel, clock: ManualClock) -> None:
    ledger = with_models(open_ledger(), make_model, 3)
    ledger.promote(None, 3)
    ledger.mark_removed([1, 2])
    clock.advance(60)
    ledger.mark_removed([1])
    assert [model.removed_at for model in ledger.models()] == [NOON, NOON, None]
    with pytest.raises(LedgerError, match="version 1 cannot be promoted: its files were removed"):
        ledger.promote(3, 1)


def test_what_is_kept_is_not_removed(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = with_models(open_ledger(), make_model, 3)
    ledger.promote(None, 3)
    ledger.pin(2)
    with pytest.raises(LedgerError, match="version 2 cannot be removed: it is pinned"):
        ledger.mark_removed([1, 2])
    with pytest.raises(LedgerError, match="version 3 cannot be removed: it is the champion"):
        ledger.mark_removed([1, 3])
    assert [model.removed_at for model in ledger.models()] == [None, None, None]


def test_unknown_models_are_refused(open_ledger: OpenLedger, make_model: MakeModel) -> None:
    ledger = open_ledger()
    with pytest.raises(LedgerError, match=r"no model version 4. Expected a pushed model, but there is none yet"):
        ledger.model(4)
    with pytest.raises(LedgerError, match=r"version 1 was never reserved. Expected at most 0"):
        ledger.record_model(make_model(1))
    ledger.record_model(make_model(ledger.reserve_version()))
    with pytest.raises(LedgerError, match=r"no model version 4. Expected a version from 1 to 1"):
        ledger.promote(1, 4)
