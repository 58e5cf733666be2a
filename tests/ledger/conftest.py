"""Ledgers on SQLite, PostgreSQL and MariaDB, with a clock that stands still until it is told to move."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from core.clock import ManualClock
from ledger.ledger import Ledger
from ledger.tables import metadata
from schemas.ledger_records import ModelRecord, SpanArrival
from schemas.spans import SpanRef

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
START_SECONDS = 60
# Where Debian puts the servers, which it leaves out of a user's PATH.
SERVER_FOLDERS = [*map(str, Path("/usr/lib/postgresql").glob("*/bin")), "/usr/sbin", os.environ.get("PATH", "")]


class Server:
    """A database server of this test session, in a folder of its own, that answers on a Unix socket there only.

    It runs as `nobody` where the tests run as root, since PostgreSQL refuses to.

    Attributes:
        folder: Where its data and its socket are.
        url: Of its databases, with {} for the name.
        first: A database that is there from the start.
        stop_signal: What ends it at once.
    """

    def __init__(
        self, package: str, programs: tuple[str, ...], url: str, *, first: str, stop_signal: signal.Signals
    ) -> None:
        self._programs = {program: shutil.which(program, path=os.pathsep.join(SERVER_FOLDERS)) for program in programs}
        if missing := [program for program, path in self._programs.items() if path is None]:
            pytest.skip(f"NOT TESTED on {package}: no {', '.join(missing)} here. Run `apt-get install {package}`.")
        # Not pytest's folder: nobody may not enter it, and a socket's path is at most 107 bytes long.
        self.folder = Path(tempfile.mkdtemp(prefix="perennial-"))
        self.url = url.format(folder=self.folder, database="{}")
        self.first = first
        self._stop_signal = stop_signal
        self._num_databases = 0
        self._shared: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._how: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
            self._how |= {"user": "nobody", "group": "nogroup", "extra_groups": []}

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs to its end."""
        with (self.folder / "log").open("a") as log:
            command = [str(self._programs[program]), *arguments]
            subprocess.run(command, stdout=log, stderr=log, check=True, **self._how)

    def start(self, program: str, *arguments: str) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            command = [str(self._programs[program]), *arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._how)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server without ceremony and remove its folder."""
        if self._process is not None:
            self._process.send_signal(self._stop_signal)
            self._process.wait()
        shutil.rmtree(self.folder)

    def make_database(self) -> str:
        """Return the URL of a new, empty database."""
        self._num_databases += 1
        name = f"ledger_{self._num_databases}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url.format(name)

    def clear_database(self) -> str:
        """Return the URL of one and the same database, with its tables emptied: making them anew takes longer."""
        if self._shared is None:
            self._shared = self.make_database()
        engine = create_engine(self._shared)
        with engine.begin() as connection:
            there = set(inspect(connection).get_table_names())
            for table in metadata.sorted_tables:
                if table.name in there:
                    connection.execute(table.delete())
        engine.dispose()
        return self._shared

    def _answers(self) -> bool:
        # PyMySQL forgets to close a socket that found nobody, and pytest notices.
        if not any(path.is_socket() for path in self.folder.iterdir()):
            return False
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.url.format(self.first), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    programs = ("initdb", "postgres")
    url = "postgresql+psycopg://perennial@/{database}?host={folder}"
    # What it calls an immediate shutdown.
    server = Server("postgresql", programs, url, first="postgres", stop_signal=signal.SIGQUIT)
    try:
        data = f"{server.folder}/data"
        server.run("initdb", "-D", data, "-U", "perennial", "--auth=trust", "--no-sync", "--no-locale", "-EUTF8")
        # Without a TCP port, and without waiting for a disk: nothing here outlives the session.
        settings = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off")
        options = [word for setting in settings for word in ("-c", setting)]
        server.start("postgres", "-D", data, "-k", str(server.folder), *options)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    programs = ("mariadb-install-db", "mariadbd")
    url = "mysql+pymysql://root@/{database}?unix_socket={folder}/socket"
    server = Server("mariadb-server", programs, url, first="mysql", stop_signal=signal.SIGKILL)
    try:
        where = ("--no-defaults", f"--datadir={server.folder}/data", "--innodb-log-file-size=8M")
        server.run("mariadb-install-db", *where, "--auth-root-authentication-method=normal", "--skip-test-db")
        options = ("--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")
        server.start("mariadbd", *where, f"--socket={server.folder}/socket", *options)
        yield server
    finally:
        server.stop()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/pipeline/ledger.sqlite"


KINDS = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(params=KINDS)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Return where a ledger may be that knows nothing yet, on each kind of database in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(request.param).clear_database())


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest) -> str:
    """Return where no ledger is yet, on each kind of database in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(request.param).make_database())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def open_ledger(ledger_url: str, clock: ManualClock) -> Iterator[Callable[..., Ledger]]:
    """Open the test's ledger, as often as asked; all are closed at the end."""
    opened: list[Ledger] = []

    def open_again(pipeline: str = "flights") -> Ledger:
        opened.append(Ledger.open(ledger_url, pipeline, clock=clock))
        return opened[-1]

    yield open_again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def make_ref() -> Callable[..., SpanRef]:
    def make(span: int, version: int = 1, digest: str | None = None) -> SpanRef:
        return SpanRef(span=span, version=version, digest=digest or f"{span:032x}{version:032x}")

    return make


@pytest.fixture
def arrive(make_ref: Callable[..., SpanRef]) -> Callable[..., SpanArrival]:
    def make(span: int, version: int = 1, digest: str | None = None, **more: Any) -> SpanArrival:
        return SpanArrival(ref=make_ref(span, version, digest), num_examples=more.pop("num_examples", 10), **more)

    return make


@pytest.fixture
def make_model() -> Callable[..., ModelRecord]:
    def make(version: int, **changes: object) -> ModelRecord:
        fields: dict[str, object] = {
            "version": version,
            "run_id": f"run-{version}",
            "span": 7 + version,
            "span_version": 1,
            "model_uri": f"/artifacts/model/{version}",
            "model_digest": "a" * 64,
            "training_digest": "b" * 64,
            "transform_graph_uri": "/artifacts/transform_graph/1",
            "transform_span": 8,
            "statistics_uri": "/artifacts/statistics/1",
            "model_shape": "c" * 64,
            "base_version": version - 1 or None,
            "pushed_at": NOON,
        }
        return ModelRecord.model_validate(fields | changes)

    return make
