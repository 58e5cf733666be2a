"""Resolve `requirements/*.lock` again, from the ranges of setup.py and the pins of each stack's .in file.

`compat.lock` holds for Python 3.11 on any glibc since 2.28; `current.lock` for Python 3.11 to 3.13 in one
file, by markers. Needs the uv that `make setup` fetched. Not in here: installing.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools.registry import parse_pip_config, uv_environment
from tools.stack import StackName

TARGETS: dict[StackName, list[str]] = {
    "compat": ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"],
    "current": ["--python-version", "3.11", "--universal"],
}
# No addresses of registries and no paths of this host may end up in a lock.
PLAIN = ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make locks", "--quiet"]


def compile_lock(root: Path, stack: StackName, arguments: list[str]) -> int:
    """Write one lock; without arguments, versions already locked stay where they still fit.

    Args:
        root: Folder of the project.
        stack: Which lock.
        arguments: More options for uv, such as `--upgrade`.

    Returns:
        uv's exit code.
    """
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    environ = uv_environment(parse_pip_config(listing.stdout), os.environ)
    sources = ["setup.py", f"requirements/{stack}.in", "--extra", "dev", "--extra", "bench"]
    into = ["--output-file", f"requirements/{stack}.lock"]
    command = [".venv/uv/bin/uv", "pip", "compile", *sources, *into, *TARGETS[stack], *PLAIN, *arguments]
    return subprocess.run(command, cwd=root, env=environ, check=False).returncode


def main() -> int:
    """Write both locks."""
    root = Path(__file__).resolve().parent.parent
    for stack in TARGETS:
        print(f"Resolving requirements/{stack}.lock", flush=True)
        code = compile_lock(root, stack, sys.argv[1:])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
