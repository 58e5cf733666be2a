"""The output that docs/corrections.md shows is what the commands print."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cli.main import perennial

PAGE = Path(__file__).parents[2] / "docs" / "corrections.md"
CONFIG = PAGE.parents[1] / "conf" / "flights.yaml"
EXAMPLE = re.compile(r"```console\n\$ perennial ([^\n]*)\n(.*?)```", re.DOTALL)


def test_the_examples_are_what_is_printed(family: Any) -> None:
    family.arrive(9, version=2, num_altered=300)
    family.arrive(11)
    page = PAGE.read_text(encoding="utf-8")

    def printed(example: re.Match[str]) -> str:
        words = [*shlex.split(example[1]), "--config", str(CONFIG), "--set", f"root={family.root}"]
        output = CliRunner().invoke(perennial, words, catch_exceptions=False).output
        lines = [line.rstrip() for line in output.strip("\n").splitlines()]
        return f"```console\n$ perennial {example[1]}\n" + "\n".join(lines) + "\n```"

    shown = EXAMPLE.sub(printed, page)
    # As the golden files: UPDATE_GOLDEN=1 writes what is printed now, and the diff is reviewed.
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(shown, encoding="utf-8")
    assert len(EXAMPLE.findall(page)) == 2
    assert shown == PAGE.read_text(encoding="utf-8")
