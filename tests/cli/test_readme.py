"""The README's commands exist, with the options that it shows."""

import re
import shlex
from pathlib import Path

import click
import pytest

from cli.main import perennial

README = Path("README.md")
COMMANDS = re.findall(r"^perennial (.+?)(?:\s+#.*)?$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_readme_shows_every_command():
    shown = {command.split()[0] for command in COMMANDS}
    assert shown == set(perennial.commands)


@pytest.mark.parametrize("line", COMMANDS)
def test_readme_command_parses(line: str):
    command: click.Command = perennial
    context, words = None, shlex.split(line)
    while isinstance(command, click.Group):
        context = command.make_context(command.name, list(words), parent=context)
        command = command.commands[words.pop(0)]
    # Parsing alone: nothing runs, but an unknown option or a missing argument raises.
    command.make_context(command.name, words, parent=context)


def test_readme_make_targets_exist():
    makefile = Path("Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", README.read_text(encoding="utf-8"))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
