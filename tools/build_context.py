"""Which files `docker build` sends: those of the project that `.dockerignore` lets through.

Not in here: what is done with them.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def context_files(ignore: str, files: Iterable[str]) -> list[str]:
    r"""Return the files that are sent, sorted; of the patterns that match, the last one counts.

    Args:
        ignore: Text of `.dockerignore`.
        files: Paths below the project.

    Example:
        >>> context_files("*\n!core\n**/*.pyc", ["core/a.py", "core/a.pyc", "secret"])
        ['core/a.py']
    """
    rules = [line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
    return sorted(file for file in files if not _is_ignored(rules, file))


def _is_ignored(rules: list[str], file: str) -> bool:
    is_ignored = False
    for rule in rules:
        if _matches(rule.removeprefix("!").rstrip("/"), file):
            is_ignored = not rule.startswith("!")
    return is_ignored


def _matches(pattern: str, file: str) -> bool:
    """Whether a pattern names the file or a folder above it; a star stays inside one name."""
    parts, wanted = file.split("/"), pattern.split("/")
    if wanted[0] == "**":
        return any(_begins_with(parts[start:], wanted[1:]) for start in range(len(parts)))
    return _begins_with(parts, wanted)


def _begins_with(parts: list[str], wanted: list[str]) -> bool:
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))
