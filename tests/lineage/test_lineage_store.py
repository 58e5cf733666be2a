"""What can be opened as an ML Metadata store, and that looking at one changes nothing."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import errors

from core.errors import LineageError
from lineage.store import opened_store


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
    before = history.path.read_bytes()
    history.graph()
    assert history.path.read_bytes() == before


def test_importing_lineage_and_ledger_brings_in_no_tensorflow() -> None:
    script = (
        "import sys, ledger.ledger, lineage.graph, lineage.queries, lineage.store, cli.status, cli.lineage; "
        "print(sorted({'tensorflow', 'tfx', 'apache_beam', 'keras', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
