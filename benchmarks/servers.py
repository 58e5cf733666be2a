"""Database servers of Debian's packages, started in a temporary folder for one benchmark and removed after it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

START_SECONDS = 60
# Where Debian puts the servers, which it leaves out of a user's PATH.
_FOLDERS = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))), "/usr/sbin", os.environ.get("PATH", "")]


class NotInstalledError(Exception):
    """The server's programs are not on this machine."""


@contextmanager
def postgresql() -> Iterator[Path]:
    """Start PostgreSQL with its default settings; yield the folder of its socket, user `perennial`, no password.

    Raises:
        NotInstalledError: there is no such server here.
    """
    with _folder() as (folder, how):
        data = str(folder / "data")
        initdb = [_program("initdb"), "-D", data, "-U", "perennial", "--auth=trust", "--no-locale", "-EUTF8"]
        subprocess.run(initdb, stdout=subprocess.DEVNULL, check=True, **how)
        command = [_program("postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses="]
        with _running(command, postgresql_url(folder, "postgres"), folder, how):
            yield folder


@contextmanager
def mariadb() -> Iterator[str]:
    """Start MariaDB with its default settings; yield the SQLAlchemy URL of an empty database.

    Raises:
        NotInstalledError: there is no such server here.
    """
    with _folder() as (folder, how):
        where = ["--no-defaults", f"--datadir={folder}/data"]
        install = [_program("mariadb-install-db"), *where, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, stdout=subprocess.DEVNULL, check=True, **how)
        command = [_program("mariadbd"), *where, f"--socket={folder}/socket", "--skip-networking"]
        url = "mysql+pymysql://root@/{}?unix_socket=" + f"{folder}/socket"
        with _running(command, url.format("mysql"), folder, how):
            execute(url.format("mysql"), "CREATE DATABASE benchmark")
            yield url.format("benchmark")


def postgresql_url(folder: Path, database: str) -> str:
    """Return the SQLAlchemy URL of a database of `postgresql()`."""
    return f"postgresql+psycopg://perennial@/{database}?host={folder}"


def execute(url: str, statement: str) -> Any:
    """Run one statement outside of a transaction; return the first value of its answer, or None."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join(_FOLDERS))
    if found is None:
        raise NotInstalledError(f"{name} is not installed.")
    return found


@contextmanager
def _folder() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a folder for a server, which runs as `nobody` where we are root, since PostgreSQL refuses to."""
    # Short, since a socket's path is at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="perennial-"))
    how: dict[str, Any] = {"cwd": folder, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
        how |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
    try:
        yield folder, how
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: list[str], url: str, folder: Path, how: dict[str, Any]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **how)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url, folder):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start. Run it by hand: {' '.join(command)}")
            time.sleep(0.1)
        yield
    finally:
        # At once, and whoever is connected: what it has written is thrown away.
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _answers(url: str, folder: Path) -> bool:
    if not any(path.is_socket() for path in folder.iterdir()):
        return False
    try:
        execute(url, "SELECT 1")
    except OperationalError:
        return False
    return True
