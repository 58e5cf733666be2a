"""What can be opened as an ML Metadata store, and that looking at one changes nothing."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import errors

from core.errors import ConfigError, LineageError
from lineage.store import connection_config, opened_store, shown_url, store_exists


def test_a_missing_store_is_reported_and_not_made(tmp_path: Path) -> None:
    missing = r"There is no ML Metadata store at '.*/none'.*Run the pipeline first"
    with pytest.raises(LineageError, match=missing), opened_store(f"sqlite:///{tmp_path}/none"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "metadata.sqlite"
    file.write_text("no database " * 100)
    with (
        pytest.raises(LineageError, match="does not answer as an ML Metadata store"),
        opened_store(f"sqlite:///{file}"),
    ):
        pass
    assert file.read_text() == "no database " * 100


def test_another_database_is_reported_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE spans (span INTEGER)")
    connection.close()
    before = file.read_bytes()
    with (
        pytest.raises(LineageError, match="does not answer as an ML Metadata store"),
        opened_store(f"sqlite:///{file}"),
    ):
        pass
    assert file.read_bytes() == before


def test_a_store_that_stops_answering_is_reported(make_history: Callable[[], Any]) -> None:
    url = make_history().url
    with pytest.raises(LineageError, match=r"does not answer .*: disk I/O error") as caught, opened_store(url):
        raise errors.InternalError("disk I/O error")
    assert isinstance(caught.value.__cause__, errors.StatusError)


def test_reading_a_store_does_not_change_it(make_history: Callable[[], Any], make_ref: Callable[..., Any]) -> None:
    history = make_history()
    history.train(history.examples(make_ref(1)))
    path = Path(history.url.removeprefix("sqlite:///"))
    before = path.read_bytes()
    history.graph()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////root/metadata.sqlite", {"filename_uri": "/root/metadata.sqlite", "connection_mode": 1}),
        ("mysql://me:p%40ss@db:3307/lineage", {"host": "db", "port": 3307, "user": "me", "password": "p@ss"}),
        ("mysql+pymysql://me@db/lineage", {"host": "db", "port": 3306, "user": "me", "password": ""}),
        ("mariadb://me@/lineage?unix_socket=/run/db.socket", {"socket": "/run/db.socket", "host": ""}),
    ],
    ids=["file", "password in code", "driver", "socket"],
)
def test_a_url_says_where_the_store_is(url: str, expected: dict[str, object]) -> None:
    config = connection_config(url, writable=False)
    store = config.sqlite if "sqlite" in url else config.mysql
    assert {name: getattr(store, name) for name in expected} == expected
    assert shown_url("mysql://me:p%40ss@db:3307/lineage") == "mysql://me:***@db:3307/lineage"


@pytest.mark.parametrize("url", ["postgresql://me:s3cret@db/lineage", "mysql://me:s3cret@db", "s3cret"])
def test_another_kind_of_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected sqlite:///PATH or mysql://USER:PASSWORD@HOST") as caught:
        store_exists(url)
    assert "s3cret" not in str(caught.value)


def test_a_store_that_is_to_be_written_gets_its_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deep/down/metadata.sqlite"
    connection_config(url, writable=False)
    assert not store_exists(url)
    assert list(tmp_path.iterdir()) == []
    connection_config(url)
    assert (tmp_path / "deep/down").is_dir()


def test_importing_lineage_and_ledger_brings_in_no_tensorflow() -> None:
    script = (
        "import sys, ledger.ledger, lineage.graph, lineage.queries, lineage.store, cli.status, cli.lineage; "
        "print(sorted({'tensorflow', 'tfx', 'apache_beam', 'keras', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
