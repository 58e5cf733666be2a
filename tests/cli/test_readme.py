"""The README's commands exist, with the options that it shows."""

import re
from pathlib import Path

import pytest

from cli.main import perennial

README = Path("README.md")
COMMANDS = re.findall(r"^perennial (.+?)(?:\s+#.*)?$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_readme_shows_every_command():
    shown = {command.split()[0] for command in COMMANDS}
    assert shown == set(perennial.commands)


@pytest.mark.parametrize("line", COMMANDS)
def test_readme_command_parses(line: str, parse_command):
    parse_command(line)


def test_readme_make_targets_exist():
    makefile = Path("Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", README.read_text(encoding="utf-8"))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
