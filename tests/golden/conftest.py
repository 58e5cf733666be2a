"""Golden files: what is made now must be what was reviewed. `make golden` writes them anew."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "files"
UPDATE = "UPDATE_GOLDEN"


@pytest.fixture(scope="session")
def check_golden() -> Callable[[str, str], None]:
    """Compare a text with the reviewed file of that name, or write it where UPDATE_GOLDEN is set."""

    def check(name: str, text: str) -> None:
        path = FOLDER / name
        text = text.rstrip("\n") + "\n"
        if os.environ.get(UPDATE):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{name} is not there yet. Run `make golden` and review the new file."
        assert text == path.read_text(encoding="utf-8"), f"{name} differs. Run `make golden` and review the diff."

    return check
