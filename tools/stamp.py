"""The note in `.venv/` that says what was installed, so that a second set-up has nothing to do.

An environment without a `ready` stamp was interrupted and is made again. Not in here: installing.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

STAMP_NAME = "perennial-setup.json"


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from.

    A change of `digest` is mended in place; a change of the others needs a fresh environment.

    Args:
        state: Whether the installation came to its end.
        root: Folder of the project; scripts in `.venv/bin` hold it.
        python: Version and path of the Python underneath.
        stack: Name of the lock.
        digest: SHA-256 over everything that says what to install.
    """

    state: Literal["installing", "ready"]
    root: str
    python: str
    stack: str
    digest: str

    def can_mend(self, wanted: "Stamp") -> bool:
        """Tell whether installing on top of this environment gives the wanted one."""
        return (self.state, self.root, self.python, self.stack) == ("ready", wanted.root, wanted.python, wanted.stack)


def read_stamp(venv: Path) -> Stamp | None:
    """Read the stamp, None where there is none that can be read."""
    try:
        return Stamp(**json.loads((venv / STAMP_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Replace the stamp in one step."""
    temporary = venv / f"{STAMP_NAME}.tmp"
    temporary.write_text(json.dumps(asdict(stamp), indent=2) + "\n")
    temporary.replace(venv / STAMP_NAME)


def digest_files(paths: Iterable[Path]) -> str:
    """Digest names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()
