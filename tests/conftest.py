"""What holds for the whole suite."""

import gc
import os
import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import click
import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from xdist.scheduler import LoadScopeScheduling

# Packages of tests that take longest, in order.
LONGEST = {name: rank for rank, name in enumerate(("e2e", "trainer", "pipeline", "kubeflow", "ledger", "transform"))}
START_SECONDS = 60
# Where Debian puts the servers, which it leaves out of a user's PATH.
SERVER_FOLDERS = [*map(str, Path("/usr/lib/postgresql").glob("*/bin")), "/usr/sbin", os.environ.get("PATH", "")]


def pytest_configure() -> None:
    """Print tables as into a pipe: a test process of pytest-xdist is told the width of the terminal."""
    os.environ.pop("COLUMNS", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep tests that share a fixture of many seconds in one process, with the longest groups first.

    Not by pytest-xdist's own marks: they group nothing with pytest 9.2 (pytest-dev/pytest-xdist#1386).
    """
    config.option.loadscopereorder = False
    return Groups(config, log)


class Groups(LoadScopeScheduling):
    """Groups of tests, each for one process: a package's, and of the e2e tests a file's or those of the same cycles."""

    # Files of tests/e2e that make pipelines of their own; all others look at the three cycles of its conftest.
    WITHOUT_CYCLES = ("test_continual.py", "test_own_data.py")

    def _split_scope(self, nodeid: str) -> str:
        file = PurePath(nodeid.split("::", 1)[0])
        if file.parent.name == "e2e" and file.name in self.WITHOUT_CYCLES:
            return str(file)
        return str(file.parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the packages that take minutes: what comes last should be short, or one process waits for it."""
    items.sort(key=lambda item: LONGEST.get(item.path.parent.name, len(LONGEST)))


@event.listens_for(Engine, "connect")
def _wait_for_no_disk(connection: Any, record: Any) -> None:
    # As the servers of the ledger's tests do: nothing that a test writes has to outlive a power cut.
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later garbage collection, and collect seldom, as the command does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, and why, with one line for each reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("skipped")
    for reason, num_tests in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED [{num_tests}] {reason}", yellow=True)


@pytest.fixture
def parse_command() -> Callable[[str], None]:
    """Parse a line of documentation as `perennial` would: nothing runs, but a wrong option or argument raises."""
    from cli.main import perennial

    def parse(line: str) -> None:
        command: click.Command = perennial
        context, words = None, shlex.split(line)
        while isinstance(command, click.Group):
            context = command.make_context(command.name, list(words), parent=context)
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words, parent=context)

    return parse


class Evaluations:
    """Two small models, 440 examples, and what TFMA says of them; TensorFlow is imported when they are made.

    The models score by `sigmoid(weight * x + noise)`, where `x` is 1 for label 1 and -1 for label 0: the `good` one,
    of the greater weight, ranks better. Of the examples 200 are in slice carrier=AA, 200 in UA and 40 in ZZ.
    """

    WEIGHTS = {"good": 2.0, "poor": 0.5}

    def __init__(self, root: Path) -> None:
        self.root = root
        self.examples = root / "examples"  # as an Examples artifact
        chance = random.Random(0)
        self.labels = [chance.randrange(2) for _ in range(440)]
        self.noise = [chance.gauss(0, 1.5) for _ in self.labels]
        self.carriers = ["ZZ" if row % 11 == 0 else ("AA", "UA")[row % 2] for row in range(440)]
        self._made: dict[Any, Path] = {}
        self._write_examples()
        for name, weight in self.WEIGHTS.items():
            self._save_model(name, weight)

    def model(self, name: str) -> Path:
        """Return the folder of a Model artifact."""
        return self.root / name

    def scores(self, name: str) -> Any:
        """Return a model's scores of all examples, shape `(440, 1)`."""
        import numpy as np

        logits = self.WEIGHTS[name] * (2.0 * np.array(self.labels) - 1) + np.array(self.noise)
        return 1 / (1 + np.exp(-logits[:, None]))

    def records(self) -> list[bytes]:
        """Return the examples, serialized."""
        import tensorflow as tf

        records = []
        for label, noise, carrier in zip(self.labels, self.noise, self.carriers, strict=True):
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.append(2.0 * label - 1)
            example.features.feature["noise"].float_list.value.append(noise)
            example.features.feature["late"].int64_list.value.append(label)
            example.features.feature["carrier"].bytes_list.value.append(carrier.encode())
            records.append(bytes(example.SerializeToString()))
        return records

    def evaluate(self, config: Any, model: str, *, with_examples: bool = True) -> Path:
        """Run TFMA as TFX's Evaluator does and return the folder it fills; the same evaluation is made once.

        Args:
            config: An EvalConfig.
            model: The candidate.
            with_examples: Whether there are any.
        """
        key = (config.SerializeToString(deterministic=True), model, with_examples)
        if key not in self._made:
            self._made[key] = self.root / f"evaluation-{len(self._made)}"
            self._evaluate(config, model, "eval" if with_examples else "none", self._made[key])
        return self._made[key]

    def _evaluate(self, config: Any, model: str, split: str, output: Path) -> None:
        import tensorflow_model_analysis as tfma
        from apache_beam.options.pipeline_options import PipelineOptions

        config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
        tfma.run_model_analysis(
            tfma.default_eval_shared_model(str(self.model(model) / "Format-Serving"), eval_config=config),
            config,
            data_location=str(self.examples / f"Split-{split}" / "*"),
            output_path=str(output),
            # Beam's default runner first looks for a server to download.
            pipeline_options=PipelineOptions(["--runner=FnApiRunner"]),
        )

    def _write_examples(self) -> None:
        import tensorflow as tf

        for split, records in (("eval", self.records()), ("none", [])):
            path = self.examples / f"Split-{split}" / "span-000007-a.tfrecord.gz"
            path.parent.mkdir(parents=True)
            with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
                for record in records:
                    writer.write(record)

    def _save_model(self, name: str, weight: float) -> None:
        import tensorflow as tf

        model = tf.Module()
        model.weight = tf.Variable(weight)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(examples: Any) -> Any:
            columns = {column: tf.io.FixedLenFeature([1], tf.float32) for column in ("x", "noise")}
            features = tf.io.parse_example(examples, columns)
            return {"probability": tf.sigmoid(model.weight * features["x"] + features["noise"])}

        signatures = {"serving_default": serve}
        tf.saved_model.save(model, str(self.model(name) / "Format-Serving"), signatures=signatures)


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    """Return the two models, made once."""
    return Evaluations(Path(tmp_path_factory.mktemp("evaluations")))


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
        name = f"database_{self._num_databases}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url.format(name)

    def clear_database(self, metadata: Any) -> str:
        """Return the URL of one and the same database, with its tables emptied: making them anew takes longer.

        Args:
            metadata: SQLAlchemy's description of the tables.
        """
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
