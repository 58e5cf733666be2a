"""Places where a ledger cannot be, and databases that are away for now."""

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from core.errors import ConfigError, LedgerError, UnavailableError
from ledger.ledger import Ledger
from ledger.tables import metadata
from schemas.ledger_records import SpanArrival
from schemas.spans import SpanRef

Arrive = Callable[..., SpanArrival]
SERVERS = ["postgresql", "mariadb"]


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).clear_database(metadata))


@pytest.fixture
def administrator(server_url: str) -> Iterator[Engine]:
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def test_looking_does_not_make_a_ledger(sqlite_url: str, tmp_path: Path) -> None:
    assert not Ledger.exists(sqlite_url)
    assert list(tmp_path.iterdir()) == []
    Ledger.open(sqlite_url, "flights").close()
    assert Ledger.exists(sqlite_url)
    assert Ledger.exists("sqlite://")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_text("span,state\n1,pushed\n" * 100)
    with pytest.raises(
        LedgerError, match=r"ledger at sqlite:///.*ledger.sqlite cannot be used: file is not a database"
    ):
        Ledger.open(f"sqlite:///{file}", "flights")
    assert file.read_text() == "span,state\n1,pushed\n" * 100


def test_a_truncated_ledger_is_reported(sqlite_url: str, arrive: Arrive) -> None:
    with Ledger.open(sqlite_url, "flights") as ledger:
        ledger.register_spans([arrive(span) for span in range(500)])
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    file.write_bytes(file.read_bytes()[: 3 * 4096])
    with pytest.raises(LedgerError, match="restore it from a backup"), Ledger.open(sqlite_url, "flights") as ledger:
        ledger.spans()


def test_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE pipelines (name TEXT)")
    before = file.read_bytes()
    with pytest.raises(LedgerError, match=r"ledger at sqlite:///.*other.sqlite cannot be used: no such column"):
        Ledger.open(f"sqlite:///{file}", "flights")
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"folder .*/file/below' cannot be made: Not a directory"):
        Ledger.open(f"sqlite:///{tmp_path}/file/below/ledger.sqlite", "flights")


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match="unable to open database file"):
        Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", "flights")


@pytest.mark.parametrize(
    "url", ["no url", "oracel://host/db", "oracle://host/db"], ids=["no-url", "unknown-database", "not-ours"]
)
def test_a_wrong_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"The ledger URL '.*' cannot be used"):
        Ledger.open(url, "flights")


@pytest.mark.parametrize("url", ["postgresql+psycopg2://host/db", "mysql+mysqldb://host/db"])
def test_a_driver_that_is_not_there_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: No module.*'postgresql\+psycopg://USER@HOST/DATABASE'"):
        Ledger.open(url, "flights")


def test_a_locked_file_is_worth_trying_again(sqlite_url: str) -> None:
    with Ledger.open(sqlite_url, "flights") as ledger, closing(sqlite3.connect(ledger_file(sqlite_url))) as other:
        other.execute("BEGIN IMMEDIATE")
        with ledger._database.reading() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(UnavailableError, match=r"is not available: database is locked.*keeps it locked"):
            ledger.reserve_version()
        assert ledger.champion() is None
        other.rollback()
        assert ledger.reserve_version() == 1


def test_a_full_disk_is_worth_trying_again(sqlite_url: str, arrive: Arrive) -> None:
    with Ledger.open(sqlite_url, "flights") as ledger:
        with ledger._database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(UnavailableError, match="is not available: database or disk is full"):
            ledger.register_spans([arrive(span) for span in range(5000)])
        assert ledger.spans() == []
        with ledger._database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 4294967294")
        assert ledger.register_spans([arrive(1)]) == 1


def test_a_ledger_is_one_file(sqlite_url: str, arrive: Arrive) -> None:
    with Ledger.open(sqlite_url, "flights") as ledger:
        ledger.register_spans([arrive(1)])
        assert [path.name for path in ledger_file(sqlite_url).parent.iterdir()] == ["ledger.sqlite"]


def ledger_file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# PyMySQL forgets to close a socket that found nobody, so it is collected here, where the warning is expected.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_server_that_is_not_there_is_worth_trying_again(server_url: str, tmp_path: Path) -> None:
    url = make_url(server_url)
    (key,) = url.query
    nowhere = url.set(query={key: str(tmp_path / "nowhere")}).render_as_string()
    with pytest.raises(UnavailableError, match="start the server; then repeat the command"):
        Ledger.open(nowhere, "flights")
    gc.collect()


def test_a_database_that_nobody_made_is_reported(server_url: str) -> None:
    nowhere = make_url(server_url).set(database="nowhere").render_as_string()
    with pytest.raises(LedgerError, match=r"cannot be used: .*nowhere"):
        Ledger.open(nowhere, "flights")


def test_a_server_that_was_restarted_is_found_again(server_url: str, administrator: Engine) -> None:
    with Ledger.open(server_url, "flights") as ledger:
        assert ledger.reserve_version() == 1
        hang_up(administrator)
        assert ledger.reserve_version() == 2


def test_a_connection_that_breaks_inside_a_transaction_undoes_it(server_url: str, administrator: Engine) -> None:
    with Ledger.open(server_url, "flights") as ledger:

        def break_off() -> None:
            with ledger.fenced():
                ledger.reserve_version()
                hang_up(administrator)
                ledger.reserve_version()

        with pytest.raises(UnavailableError, match="is not available"):
            break_off()
        assert ledger.reserve_version() == 1


def hang_up(administrator: Engine) -> None:
    """End every other connection to this database."""
    if administrator.dialect.name == "postgresql":
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        others += "AND pid <> pg_backend_pid()"
        with administrator.connect() as connection:
            connection.execute(text(others)).all()
        return
    others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    with administrator.connect() as connection:
        for number in connection.execute(text(others)).scalars().all():
            connection.execute(text(f"KILL {number}"))


def test_names_differ_by_case(server_url: str) -> None:
    with Ledger.open(server_url, "flights") as lower, Ledger.open(server_url, "Flights") as upper:
        assert (lower.reserve_version(), upper.reserve_version()) == (1, 1)
        refs = [SpanRef(span=1, version=1, digest=digest) for digest in ("a", "A")]
        assert lower.register_spans([SpanArrival(ref=ref, num_examples=1) for ref in refs]) == 2
