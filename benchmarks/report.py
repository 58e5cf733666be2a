"""Where results go: a section of a page for people, one line of JSON on stdout for programs."""

import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path("docs/benchmarks.md")


def write_section(heading: str, lines: Iterable[str], *, page: Path = RESULTS) -> None:
    """Replace the section of this heading in a page, or append it; the others stay as they are."""
    text = page.read_text(encoding="utf-8")
    section = "\n".join((f"## {heading}", "", *lines, "", ""))
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    # By a function, since a backslash in a replacement means something.
    text, num_found = pattern.subn(lambda _: section, text)
    if num_found == 0:
        text = f"{text.rstrip()}\n\n{section}"
    page.write_text(text.rstrip() + "\n", encoding="utf-8")


def print_json(name: str, **results: Any) -> None:
    """Print the last line of a benchmark: its name and what it measured."""
    print(json.dumps({"benchmark": name, **results}))


def machine() -> str:
    """Return what the numbers were taken on, in half a sentence."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"
