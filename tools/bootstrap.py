"""Entry point of `make setup`: refuse a Python that can't work, then hand over to `tools.install`.

This file is the only one that a wrong Python gets to read, so its syntax and its imports are those of Python
3.6. Not in here: what is installed, and how.
"""

import os
import sys

SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
EXIT_WRONG_HOST = 2
EXIT_INTERRUPTED = 130


def python_complaint(version: "tuple[int, int]", path: str) -> str:
    """Tell why this Python can't run Perennial, or "" where it can.

    Args:
        version: Major and minor version of the Python that runs this.
        path: The folders in which a better one is looked for, as in the PATH variable.
    """
    if version in SUPPORTED_PYTHONS:
        return ""
    names = [f"python{major}.{minor}" for major, minor in SUPPORTED_PYTHONS]
    found = [
        name for name in names if any(os.access(os.path.join(folder, name), os.X_OK) for folder in path.split(":"))
    ]
    fix = f"use the one you have: make setup PYTHON={found[0]}" if found else "install one of them"
    return f"Python {version[0]}.{version[1]} can't run Perennial, which needs 3.11, 3.12 or 3.13; {fix}."


def main() -> int:
    """Make or refresh `.venv/`; return the exit code."""
    complaint = python_complaint(sys.version_info[:2], os.environ.get("PATH", ""))
    if complaint:
        sys.stderr.write(f"make setup: {complaint}\n")
        return EXIT_WRONG_HOST
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, root)
    from tools.install import set_up  # its syntax is too new for the Pythons refused above

    try:
        return set_up(root)
    except KeyboardInterrupt:
        sys.stderr.write("make setup: Interrupted; run it again and it starts over.\n")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
