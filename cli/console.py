"""The console that commands print tables and progress on."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A pipe or a log has no width; rich would assume 80 columns and cut our tables.
PIPED_WIDTH = 120


def make_console(*, stderr: bool = False) -> "Console":
    """Return a console that fits the terminal, or is `PIPED_WIDTH` wide where there is none and COLUMNS is not set."""
    from rich.console import Console

    is_piped = not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, highlight=False, width=PIPED_WIDTH if is_piped else None)
