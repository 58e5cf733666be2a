"""Which model serves, by whose word, and what the commands refuse."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import LedgerError, ServingError
from ledger.ledger import Ledger
from pipeline.registry import list_models, pin, promote, rollback, serve_champion
from schemas.model_layout import SERVING_FOLDER
from serving.version_store import hidden_versions, versions


def served(line: Any) -> int:
    return versions(line.config.serving_path)[-1]


def test_promoting_takes_effect_in_ledger_and_serving(line: Any) -> None:
    promotion = promote(line.config, line.ledger, 3, reason="5 is wrong about Sundays")
    assert (promotion.version, promotion.previous, promotion.is_restored) == (3, 5, False)
    assert (line.ledger.champion().version, served(line)) == (3, 3)
    assert hidden_versions(line.config.serving_path) == [4, 5]
    move = line.ledger.champion_moves()[-1]
    assert (move.version, move.previous, move.by, move.reason) == (3, 5, "promote", "5 is wrong about Sundays")


def test_promoting_the_champion_mends_serving_and_moves_nothing(line: Any) -> None:
    shutil.rmtree(line.config.serving_path)
    num_moves = len(line.ledger.champion_moves())
    promotion = promote(line.config, line.ledger, 5)
    assert (promotion.version, promotion.previous, promotion.is_restored) == (5, 5, True)
    assert (served(line), len(line.ledger.champion_moves())) == (5, num_moves)


def test_a_model_in_an_object_store_is_promoted_while_the_serving_folder_has_it(remote_line: Any) -> None:
    assert promote(remote_line.config, remote_line.ledger, 4).version == 4
    shutil.rmtree(remote_line.config.serving_path / "3")
    with pytest.raises(ServingError, match=r"Version 3 .*Copy 'minio://mlpipeline/v2/artifacts/.*/Format-Serving' to"):
        promote(remote_line.config, remote_line.ledger, 3)
    assert (remote_line.ledger.champion().version, served(remote_line)) == (4, 4)


def test_a_rollback_brings_back_what_vanished_from_the_serving_folder(line: Any) -> None:
    shutil.rmtree(line.config.serving_path / "4")
    assert rollback(line.config, line.ledger).is_restored
    assert (line.config.serving_path / "4" / "saved_model.pb").read_bytes() == b"graph of 4"


def test_rolling_back_again_goes_further_back_and_not_forth(line: Any) -> None:
    went = [rollback(line.config, line.ledger).version for _ in range(4)]
    assert went == [4, 3, 2, 1]
    with pytest.raises(LedgerError, match=r"nothing to roll back to.*received champion=1.*--to"):
        rollback(line.config, line.ledger)
    assert served(line) == 1


def test_after_a_rollback_the_next_push_is_followed_by_the_model_rolled_back_to(line: Any) -> None:
    rollback(line.config, line.ledger)
    line.cycle(6, base=4)
    assert served(line) == 6
    assert rollback(line.config, line.ledger).version == 4
    assert rollback(line.config, line.ledger).version == 3


def test_what_was_promoted_again_may_be_gone_back_to(line: Any) -> None:
    rollback(line.config, line.ledger)
    promote(line.config, line.ledger, 5)
    promote(line.config, line.ledger, 2)
    assert rollback(line.config, line.ledger).version == 5


def test_a_rollback_may_name_its_target(line: Any) -> None:
    assert rollback(line.config, line.ledger, 2).version == 2
    assert rollback(line.config, line.ledger).version == 1


def test_a_rollback_leaves_out_removed_models(line: Any) -> None:
    line.ledger.mark_removed([4])
    assert rollback(line.config, line.ledger).version == 3


@pytest.mark.parametrize("command", [promote, rollback], ids=["promote", "rollback"])
@pytest.mark.parametrize(
    ("version", "message"),
    [
        (9, r"no model version 9. Expected a version from 1 to 5"),
        (2, r"files of model version 2 were removed on 2026-01-01.*Choose another of `perennial model list`"),
    ],
    ids=["unknown", "removed"],
)
def test_what_is_not_there_cannot_serve(line: Any, command: Callable[..., Any], version: int, message: str) -> None:
    line.ledger.mark_removed([2])
    with pytest.raises(LedgerError, match=message):
        command(line.config, line.ledger, version)
    assert (line.ledger.champion().version, served(line)) == (5, 5)


def test_nothing_moves_where_no_copy_is_whole(line: Any) -> None:
    shutil.rmtree(line.config.serving_path / "4")
    shutil.rmtree(Path(line.ledger.model(4).model_uri) / SERVING_FOLDER)
    with pytest.raises(ServingError, match=r"received a folder without saved_model\.pb"):
        promote(line.config, line.ledger, 4)
    assert (line.ledger.champion().version, served(line)) == (5, 5)


class _OvertakenLedger(Ledger):
    """A ledger in which a cycle promotes version 3 just before this command does."""

    def promote(self, expected: int | None, version: int, **how: Any) -> bool:
        super().promote(expected, 3)
        return super().promote(expected, version, **how)


def test_a_champion_that_moved_meanwhile_stays(line: Any) -> None:
    with (
        _OvertakenLedger.open(line.config.ledger_url, line.config.name) as ledger,
        pytest.raises(LedgerError, match=r"moved while version 4.*Expected champion=5; received champion=3.*decide"),
    ):
        promote(line.config, ledger, 4)
    assert line.ledger.champion().version == 3
    serve_champion(line.config, line.ledger)
    assert served(line) == 3


def test_without_a_champion_there_is_nothing_to_serve(pipeline: Any) -> None:
    serve_champion(pipeline.config, pipeline.ledger)
    assert not pipeline.config.serving_path.exists()
    with pytest.raises(LedgerError, match=r"nothing to roll back to.*champion=None"):
        rollback(pipeline.config, pipeline.ledger)


def test_a_removed_model_is_not_pinned(line: Any) -> None:
    line.ledger.mark_removed([1])
    with pytest.raises(LedgerError, match="files of model version 1 were removed"):
        pin(line.ledger, 1)
    assert not line.ledger.model(1).is_pinned
    pin(line.ledger, 2)
    assert line.ledger.model(2).is_pinned


def test_a_command_needs_no_lease_and_a_worker_sees_what_it_did(line: Any) -> None:
    with Ledger.open(line.config.ledger_url, line.config.name) as worker:
        worker.acquire(ttl_seconds=60)
        rollback(line.config, line.ledger)
        assert worker.champion().version == 4
        assert not worker.promote(5, 3)
        worker.release()


def test_models_are_listed_with_what_became_of_them(line: Any) -> None:
    decision = line.config.runs_path / "run-5" / "decision.json"
    decision.parent.mkdir(parents=True)
    decision.write_text('{"gate": {"candidate": {"auc": 0.75, "note": "x"}}}')
    line.ledger.mark_removed([1])
    line.ledger.pin(3)
    rollback(line.config, line.ledger)
    listed = {entry.version: entry for entry in list_models(line.config, line.ledger)}
    assert [v for v, entry in listed.items() if entry.is_champion] == [4]
    assert [v for v, entry in listed.items() if entry.is_hidden] == [5]
    assert [v for v, entry in listed.items() if entry.is_pinned] == [3]
    assert [v for v, entry in listed.items() if entry.removed_at] == [1]
    assert (listed[4].base_version, listed[4].line_length, listed[4].newest_span) == (3, 1, 4)
    assert (listed[5].metrics, listed[4].metrics) == ({"auc": 0.75}, {})
    assert [reign.until is None for reign in listed[4].reigns] == [False, True]
    assert listed[5].reigns[0].until == listed[4].reigns[1].since
