"""Resolve `requirements/*.lock` again, from the ranges of setup.py and the pins of each stack's .in file.

`compat.lock` holds for Python 3.11 on any glibc since 2.28; `current.lock` for Python 3.11 to 3.13 in one
file, by markers; `cuda.lock` is what an image for GPUs has on top of it. Needs the uv that `make setup` fetched. Not in
here: installing.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools.registry import parse_pip_config, uv_environment

OURS = ["setup.py", "--extra", "dev", "--extra", "bench"]
# In this order: the last one takes its bounds from the one before.
TARGETS = {
    "compat": [*OURS, "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"],
    "current": [*OURS, "--python-version", "3.11", "--universal"],
    "cuda": ["--python-version", "3.13", "--constraint", "requirements/current.lock"],
}
# No addresses of registries and no paths of this host may end up in a lock.
PLAIN = ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make locks", "--quiet"]


def compile_lock(root: Path, name: str, arguments: list[str]) -> int:
    """Write one lock; without arguments, versions already locked stay where they still fit.

    Args:
        root: Folder of the project.
        name: Which lock.
        arguments: More options for uv, such as `--upgrade`.

    Returns:
        uv's exit code.
    """
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    environ = uv_environment(parse_pip_config(listing.stdout), os.environ)
    files = [f"requirements/{name}.in", "--output-file", f"requirements/{name}.lock"]
    command = [".venv/uv/bin/uv", "pip", "compile", *files, *TARGETS[name], *PLAIN, *arguments]
    return subprocess.run(command, cwd=root, env=environ, check=False).returncode


def main() -> int:
    """Write all locks."""
    root = Path(__file__).resolve().parent.parent
    for name in TARGETS:
        print(f"Resolving requirements/{name}.lock", flush=True)
        code = compile_lock(root, name, sys.argv[1:])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
