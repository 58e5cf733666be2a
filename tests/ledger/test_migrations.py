"""Old ledgers become new ones with all their rows, and new ones have the tables that the code expects."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

import ledger.migrations
from core.errors import LedgerError
from ledger.ledger import LEDGER_VERSION, Ledger
from ledger.migrations import VERSION_TABLE
from ledger.tables import metadata

MOMENT = datetime(2013, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
FIRST_LEDGER = Path(__file__).with_name("first_ledger.sql")
SCRIPTS = ScriptDirectory(str(Path(ledger.migrations.__file__).parent))


@pytest.fixture
def engine(new_url: str, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "pipeline").mkdir()
    engine = create_engine(new_url)
    yield engine
    engine.dispose()


@pytest.fixture
def first_url(tmp_path: Path) -> str:
    """Return where a ledger is as the first version made it."""
    with closing(sqlite3.connect(tmp_path / "first.sqlite")) as connection:
        connection.executescript(FIRST_LEDGER.read_text())
    return f"sqlite:///{tmp_path}/first.sqlite"


def apply(engine: Engine, *steps: Callable[[], Any]) -> None:
    """Run parts of migrations outside of `upgrade`."""
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for step in steps:
            step()


def test_a_first_ledger_keeps_its_rows(first_url: str) -> None:
    with Ledger.open(first_url, "flights") as upgraded:
        assert [(r.span, r.state, r.run_id, r.arrived_at) for r in upgraded.spans()] == [
            (1, "trained", "run-2", None),
            (2, "pushed", "run-2", None),
            (3, "rejected", "run-3", None),
            (4, "arrived", None, MOMENT),
        ]
        assert upgraded.spans(2, 2)[0].prequential == {"auc": 0.5}
        assert [(run.run_id, run.outcome, run.attempts, run.config_digest) for run in upgraded.runs()] == [
            ("run-2", "pushed", 0, ""),
            ("run-3", "rejected", 0, ""),
        ]
        champion = upgraded.champion()
        assert champion is not None
        assert (champion.version, champion.moved_at, champion.is_pinned) == (3, MOMENT, False)
        assert upgraded.reserve_version() == 4
        with pytest.raises(LedgerError, match="has no lease to write under"):
            upgraded.adopt()
        upgraded.keep_decision("run-2", "{}")
        assert upgraded.decision("run-2") == "{}"
        assert upgraded.acquire(ttl_seconds=60).token == 1


def test_a_first_ledger_says_what_can_be_known_of_its_past(first_url: str) -> None:
    with Ledger.open(first_url, "flights") as upgraded:
        (step,) = upgraded.transitions(2)
        assert (step.from_state, step.to_state, step.run_id, step.at) == (None, "pushed", "run-2", MOMENT)
        assert step.reason == "before steps were recorded"
        (move,) = upgraded.champion_moves()
        assert (move.version, move.previous, move.by, move.at) == (3, None, "upgrade", MOMENT)
        # The second model was made for an older span than its line had seen.
        assert [(m.line_start_span, m.newest_span) for m in upgraded.models()] == [(2, 2), (2, 2), (2, 3)]


def test_an_upgrade_happens_once(first_url: str) -> None:
    for _ in range(2):
        with Ledger.open(first_url, "flights") as upgraded:
            assert len(upgraded.champion_moves()) == 1
            assert len(upgraded.transitions(2)) == 1


def test_a_ledger_from_before_the_first_gets_the_columns_it_lacks(first_url: str) -> None:
    with closing(sqlite3.connect(first_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("ALTER TABLE spans DROP COLUMN replay_uri")
        connection.execute("ALTER TABLE models DROP COLUMN line_length")
    with Ledger.open(first_url, "flights") as upgraded:
        assert upgraded.newest_replay() is None
        assert [model.line_length for model in upgraded.models()] == [0, 0, 0]


def test_rows_survive_on_every_database(new_url: str, engine: Engine) -> None:
    first = SCRIPTS.get_revision("0001")
    apply(engine, first.module.upgrade)
    with engine.begin() as connection:
        pipeline = "INSERT INTO pipelines VALUES ('flights', 7, NULL, NULL)"
        span = "INSERT INTO spans (pipeline, span, version, digest, state, num_examples, updated_at) "
        span += "VALUES ('flights', 1, 1, 'd', 'arrived', 5, '2013-03-01 12:00:00.123456')"
        for statement in (pipeline, span):
            connection.execute(text(statement))
    with Ledger.open(new_url, "flights") as upgraded:
        assert upgraded.spans()[0].arrived_at == MOMENT
        assert [step.to_state for step in upgraded.transitions(1)] == ["arrived"]
        assert upgraded.reserve_version() == 8


def test_a_lease_survives_on_every_database(new_url: str, engine: Engine) -> None:
    apply(engine, *(SCRIPTS.get_revision(version).module.upgrade for version in ("0001", "0002")))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)"))
        pipeline = "INSERT INTO pipelines VALUES ('flights', 7, NULL, NULL)"
        lease = "INSERT INTO leases VALUES ('flights', 3, 'elsewhere:1:1', 20, 60.0, '2013-03-01 12:00:00.123456')"
        for statement in (pipeline, lease, f"INSERT INTO {VERSION_TABLE} VALUES ('0002')"):
            connection.execute(text(statement))
    with Ledger.open(new_url, "flights") as upgraded:
        adopted = upgraded.adopt()
        assert (adopted.token, adopted.holder, adopted.beats) == (3, "elsewhere:1:1", 20)
        assert upgraded.reserve_version() == 8
        assert upgraded.decision("run-1") is None


def test_an_upgrade_that_was_killed_half_way_goes_on(new_url: str, engine: Engine) -> None:
    # As MySQL leaves it, which commits after every change of a table.
    first, second = SCRIPTS.get_revision("0001"), SCRIPTS.get_revision("0002")
    apply(engine, first.module.upgrade, second.module._add_tables, second.module._add_columns)
    with Ledger.open(new_url, "flights") as upgraded:
        assert upgraded.reserve_version() == 1


def test_migrations_make_the_tables_that_the_code_expects(new_url: str, engine: Engine) -> None:
    Ledger.open(new_url, "flights").close()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    assert SCRIPTS.get_current_head() == LEDGER_VERSION


def test_a_newer_ledger_is_refused(new_url: str, engine: Engine) -> None:
    Ledger.open(new_url, "flights").close()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    refused = f"made by a newer Perennial. Expected a version up to '{LEDGER_VERSION}'; received '9999'. Install"
    with pytest.raises(LedgerError, match=refused):
        Ledger.open(new_url, "flights")


def test_opening_a_ledger_of_today_takes_no_alembic(sqlite_url: str) -> None:
    Ledger.open(sqlite_url, "flights").close()
    code = "import sys; from ledger.ledger import Ledger; Ledger.open(sys.argv[1], 'flights').close()\n"
    code += "sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, sqlite_url], check=False).returncode == 0


def test_another_pipeline_joins_an_upgraded_ledger(first_url: str) -> None:
    with Ledger.open(first_url, "risk") as other:
        assert other.spans() == []
        assert other.reserve_version() == 1
