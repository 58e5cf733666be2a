"""What `perennial model` prints, for people and for scripts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import perennial
from core.errors import LeaseHeldError, LedgerError
from ledger.ledger import Ledger
from pipeline.leadership import leading
from serving.version_store import versions

Invoke = Callable[..., Result]


def test_the_table_marks_the_champion_and_says_what_became_of_each(line: Any, invoke: Invoke) -> None:
    line.ledger.pin(3)
    invoke("gc")
    lines = invoke("list").output.splitlines()
    rows = [line.split() for line in lines if "2026" in line]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "*"]
    assert rows[0][-3:-1] == ["removed", "on"]
    assert "served until 2026-01-01 04:00, pinned" in " ".join(rows[2])
    assert "champion since 2026-01-01 05:00" in " ".join(rows[4])
    assert max(map(len, lines)) <= 100


def test_the_json_list_has_the_promised_keys(line: Any, invoke: Invoke) -> None:
    document = json.loads(invoke("list", "--json").output)
    assert [entry["version"] for entry in document] == [1, 2, 3, 4, 5]
    assert document[4] == {
        "version": 5,
        "span": 5,
        "newest_span": 5,
        "base_version": 3,
        "line_length": 1,
        "pushed_at": "2026-01-01T05:00:00Z",
        "metrics": {},
        "is_champion": True,
        "is_pinned": False,
        "is_hidden": False,
        "reigns": [{"since": "2026-01-01T05:00:00Z", "until": None}],
        "removed_at": None,
    }


def test_a_rollback_is_one_command(line: Any, invoke: Invoke) -> None:
    assert invoke("rollback", "--reason", "alarms").output == (
        "Version 4 is the champion now, and it serves; before it: version 5.\n"
    )
    assert versions(line.config.serving_path)[-1] == 4
    assert json.loads(invoke("rollback", "--to", "2", "--json").output) == {
        "version": 2,
        "previous": 4,
        "is_restored": False,
    }
    assert invoke("promote", "2").output == "Version 2 is the champion already, and it serves.\n"


def test_a_promotion_says_what_a_running_cycle_will_do(line: Any, invoke: Invoke) -> None:
    line.cycle(6, None, base=5)
    said = invoke("promote", "3").output
    assert "A cycle is under way; what it has trained will be judged against this champion." in said


@pytest.mark.parametrize(
    "words", [("promote", "9"), ("pin", "9"), ("unpin", "9"), ("rollback", "--to", "9")], ids=" ".join
)
@pytest.mark.usefixtures("line")
def test_an_unknown_version_is_a_ledger_error(invoke: Invoke, words: tuple[str, ...]) -> None:
    result = invoke(*words)
    assert isinstance(result.exception, LedgerError)
    assert "no model version 9. Expected a version from 1 to 5" in str(result.exception)


def test_pinning_is_said_and_done(line: Any, invoke: Invoke) -> None:
    assert "Version 1 is pinned" in invoke("pin", "1").output
    assert line.ledger.model(1).is_pinned
    assert json.loads(invoke("unpin", "1", "--json").output) == {"version": 1, "is_pinned": False}


def test_a_dry_run_says_what_would_go_by_kind_and_changes_nothing(line: Any, invoke: Invoke) -> None:
    said = invoke("gc", "--dry-run").output.splitlines()
    assert said[0].startswith("Would remove ")
    assert said[0].endswith("model versions: 1, 2.")
    assert any(row.split()[:2] == ["2", "Model"] for row in said)
    assert said[-1] == "Nothing was changed."
    document = json.loads(invoke("gc", "--dry-run", "--json").output)
    assert (document["dry_run"], document["versions"]) == (True, [1, 2])
    assert all(Path(entry["path"]).exists() for entry in document["doomed"])
    assert line.ledger.model(1).removed_at is None


def test_a_collection_says_what_went_and_then_that_nothing_is_left(line: Any, invoke: Invoke) -> None:
    assert invoke("gc").output.startswith("Removed ")
    assert versions(line.config.serving_path) == [3, 4, 5]
    assert invoke("gc").output == "There is nothing to remove.\n"


def test_a_collection_says_that_it_leaves_an_object_store_alone(remote_line: Any) -> None:
    said = CliRunner().invoke(perennial, ["model", "gc", *remote_line.words]).output
    assert said.startswith("10 artifacts that nothing needs any more lie in an object store, which this command never ")
    again = CliRunner().invoke(perennial, ["model", "gc", *remote_line.words]).output
    assert again.endswith("There is nothing to remove.\n")


def test_a_collection_leaves_a_worker_that_is_alive_alone(line: Any, invoke: Invoke) -> None:
    with Ledger.open(line.config.ledger_url, line.config.name) as worker, leading(worker, 2.0):
        result = invoke("gc")
    assert isinstance(result.exception, LeaseHeldError)
    assert line.ledger.model(1).removed_at is None


def test_without_a_ledger_there_is_no_model_and_none_is_made(tmp_path: Path) -> None:
    words = ("--set", f"root={tmp_path}/root")
    assert "has pushed no model yet" in CliRunner().invoke(perennial, ["model", "list", *words]).output
    assert json.loads(CliRunner().invoke(perennial, ["model", "list", "--json", *words]).output) == []
    result = CliRunner().invoke(perennial, ["model", "rollback", *words])
    assert isinstance(result.exception, LedgerError)
    assert "Run `perennial run --next`" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_load_no_tensorflow(line: Any) -> None:
    program = (
        "import sys; from cli.main import perennial; perennial(['model', *sys.argv[1:]], standalone_mode=False); "
        "sys.exit(bool({'tensorflow', 'keras', 'tfx', 'apache_beam'} & set(sys.modules)))"
    )
    for words in (("list",), ("rollback",), ("gc",)):
        ran = subprocess.run([sys.executable, "-c", program, *words, *line.words], check=False, capture_output=True)
        assert ran.returncode == 0, ran.stderr
