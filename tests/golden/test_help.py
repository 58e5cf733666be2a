from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from cli.main import perennial


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))


@pytest.mark.parametrize("path", list(_commands(perennial)), ids=" ".join)
def test_help_is_the_reviewed_one(path, check_golden):
    result = CliRunner().invoke(perennial, [*path, "--help"], prog_name="perennial", terminal_width=100)
    assert result.exit_code == 0
    check_golden(f"help-{'-'.join(('perennial', *path))}.txt", result.output)
