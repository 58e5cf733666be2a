"""What `perennial lineage taint` prints: an answer from the ledger alone, for people and for scripts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import perennial
from core.errors import LedgerError

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"

Invoke = Callable[..., str]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return ["taint", "--config", str(CONFIG), "--set", f"root={tmp_path}/root"]


@pytest.fixture
def invoke(words: list[str]) -> Invoke:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(perennial, ["lineage", *words, *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return run


def test_a_person_reads_what_is_tainted_and_what_will_be_done(family: Any, invoke: Invoke) -> None:
    family.arrive(9, version=2, num_altered=300)
    lines = invoke("9").splitlines()
    assert [line.split() for line in (lines[2], lines[4], lines[5])] == [
        ["model", "span", "by", "through", "now"],
        ["2", "9", "window", "span", "9", "version", "1", "kept"],
        ["3", "10", "base", "model", "version", "2", "serving"],
    ]
    assert [lines[0], *lines[7:]] == [
        "span 9 version 1: 2 models learned from it",
        "statistics: 1",
        "  /statistics/9",
        "replay buffers: 2",
        "  /replay/9  (may hold some)",
        "  /replay/10  (may hold some)",
        "champion: version 3, tainted",
        "last clean ancestor: version 1 (span 8); 2 spans were learned since",
        "repair: rerun. Span 9 version 2 changes 30.00% of what the champion learned from (300 examples added, 300 "
        "removed of 1,000). A run from version 1, the last clean ancestor, learns spans 9..10: 2 learned since, and "
        "corrections.max_rerun_spans is 8.",
    ]


def test_scripts_get_all_of_it(family: Any, invoke: Invoke) -> None:
    family.arrive(9, version=2, num_altered=300)
    document = json.loads(invoke("9", "--json"))
    assert [model["version"] for model in document["taint"]["models"]] == [2, 3]
    assert document["taint"]["clean_ancestor"]["model"]["version"] == 1
    assert document["taint"]["clean_ancestor"]["replay_uri"] == "/replay/8"
    assert document["repair"]["kind"] == "rerun"
    assert document["repair"]["request"]["base"]["version"] == 1


@pytest.mark.usefixtures("family")
def test_a_bad_span_can_be_looked_at_before_its_correction(invoke: Invoke) -> None:
    output = invoke("8")
    assert "transform graphs: 1\n  /transform/8\n" in output
    assert "last clean ancestor: none: the whole line is tainted" in output
    assert "repair: No correction has arrived. One that changed everything would lead to cold_start." in output


def test_a_correction_that_was_dealt_with_needs_nothing_more(family: Any, invoke: Invoke) -> None:
    family.ledger.move_span(family.arrive(9, version=2), "skipped", reason="Too little changed.")
    assert "repair: None is due: version 2 is skipped. Too little changed.\n" in invoke("9")
    never_learned = invoke("9", "--version", "2")
    assert "span 9 version 2: 0 models learned from it\n" in never_learned
    assert "champion: version 3, clean\n" in never_learned
    assert "repair: None is needed: the champion has learned nothing from it." in never_learned


@pytest.mark.usefixtures("family")
def test_wrong_questions_get_sentences(invoke: Invoke, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"Span 77 is not in the ledger of 'flights'\. Expected a span that has"):
        invoke("77")
    with pytest.raises(LedgerError, match=r"Span 9 version 4 is not in .* Expected one of its versions \[1\]\."):
        invoke("9", "--version", "4")
    with pytest.raises(LedgerError, match="Pipeline 'flights' has no ledger yet"):
        invoke("9", "--set", f"root={tmp_path}/fresh")
    assert not (tmp_path / "fresh").exists()


@pytest.mark.usefixtures("family")
def test_tensorflow_is_not_loaded(words: list[str]) -> None:
    code = (
        "import sys; from cli.main import perennial; perennial(['lineage', *sys.argv[1:]], standalone_mode=False);"
        "print(sorted(name for name in ('tensorflow', 'tfx', 'ml_metadata') if name in sys.modules))"
    )
    command = [sys.executable, "-c", code, *words, "9"]
    done: Any = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONFIG.parents[1])
    assert done.stdout.splitlines()[-1] == "[]"
