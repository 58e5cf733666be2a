"""`perennial backfill`: shows its plans first, writes nothing on a dry run, and asks before anything runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import perennial
from core.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    def run(*arguments: str) -> Result:
        words = [*arguments, "--config", str(CONFIG), "--set", f"root={tmp_path}/root"]
        return CliRunner().invoke(perennial, ["backfill", *words], catch_exceptions=False)

    return run


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_a_dry_run_shows_every_span_and_writes_nothing(family: Any, invoke: Invoke, tmp_path: Path) -> None:
    family.arrive(10, version=2, num_altered=300)
    family.arrive(11, is_registered=False)
    family.ledger.close()
    before = snapshot(tmp_path)
    result = invoke("9..12", "--dry-run", "--json")
    assert snapshot(tmp_path) == before
    document = json.loads(result.stdout)
    assert document["results"] == []
    plan = {step["span"]: step for step in document["plan"]}
    assert {span: (step["state"], step["action"]) for span, step in plan.items()} == {
        9: ("pushed", "leave"),
        10: ("arrived", "run"),
        11: (None, "run"),
        12: (None, "leave"),
    }
    assert (plan[10]["ref"]["version"], plan[10]["window"], plan[10]["start"]) == (2, [10], "warm")
    assert plan[10]["base"] == "version 2"
    assert plan[12]["why"] == "No such span has arrived."


def test_a_dry_run_without_a_ledger_makes_none(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("1..2", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count("No such span has arrived.") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_person_reads_what_would_be_done(family: Any, invoke: Invoke) -> None:
    family.ledger.move_span(family.arrive(11), "blocked", reason="Half of it is missing.")
    lines = invoke("10..11", "--dry-run").stdout.splitlines()
    assert [" ".join(line.split()) for line in (lines[1], *lines[3:5])] == [
        "span ver state do start window why",
        "10 1 pushed leave The champion, or a model that it descends from, has learned from it.",
        "11 1 blocked leave It is blocked; --again opens it.",
    ]


def test_nothing_runs_before_somebody_agreed(family: Any, invoke: Invoke) -> None:
    ref = family.arrive(11)
    with pytest.raises(ConfigError, match=r"standard input is no terminal\. Expected --yes, or --dry-run"):
        invoke("11")
    assert family.ledger.span(ref).state == "arrived"
    assert len(family.ledger.runs()) == 3


def test_where_nothing_is_to_be_done_nobody_is_asked(family: Any, invoke: Invoke) -> None:
    result = invoke("8..10", "--again", "--json")
    assert json.loads(result.stdout)["results"] == []
    assert family.ledger.lease() is None or family.ledger.lease().token == 0


def test_it_runs_under_the_lease_and_says_what_came_of_each(family: Any, invoke: Invoke) -> None:
    ref = family.arrive(10, version=2)
    result = invoke("9..10", "--yes", "--json", "--set", "corrections.repair=ignore")
    [skip] = json.loads(result.stdout)["results"]
    assert skip["span"] == ref.model_dump()
    assert skip["reason"].endswith("Nothing is trained again: corrections.repair is ignore.")
    assert family.ledger.span(ref).state == "skipped"
    assert family.ledger.lease().token == 1
    assert family.ledger.lease().holder is None
