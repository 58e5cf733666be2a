"""Which of the two TFX stacks fits a host, and the sentence that says why.

Pure decisions about versions. Not in here: looking at the host, installing.
"""

from typing import Literal, NamedTuple, cast, get_args

StackName = Literal["compat", "current"]
Version = tuple[int, int]

# TFX 1.21's TFDV wheel needs symbols (__isoc23_strtol and others) that came with this glibc.
CURRENT_MIN_GLIBC: Version = (2, 38)
# tfx 1.16.0 and its compiled dependencies have wheels for it, and for no newer Python.
COMPAT_PYTHON: Version = (3, 11)
TFX_VERSIONS: dict[StackName, str] = {"compat": "1.16.0", "current": "1.21.0"}


class SetupError(Exception):
    """What keeps `make setup` from working, as one sentence that ends in the fix."""


class Stack(NamedTuple):
    """A choice, and why it was made."""

    name: StackName
    reason: str

    @property
    def sentence(self) -> str:
        """The line that `make setup` prints."""
        return f"Stack {self.name} (TFX {TFX_VERSIONS[self.name]}): {self.reason}."


def choose_stack(glibc: Version | None, python: Version, forced: str = "") -> Stack:
    """Pick the newest stack that runs here, or the forced one if it does.

    Args:
        glibc: Version of the C library, None where it isn't glibc.
        python: Version of the Python that will run Perennial.
        forced: Value of PERENNIAL_STACK, "" to choose by what is there.

    Returns:
        The stack and the reason.

    Raises:
        SetupError: nothing fits, or the forced stack doesn't.

    Example:
        >>> choose_stack((2, 36), (3, 11)).name
        'compat'
        >>> choose_stack((2, 41), (3, 13)).name
        'current'
    """
    if glibc is None:
        raise SetupError("TFX has wheels for glibc only, and this C library is another one; use Debian or Ubuntu.")
    if forced:
        return _check_forced(glibc, python, forced)
    if glibc >= CURRENT_MIN_GLIBC:
        return Stack("current", f"glibc {_text(glibc)} is {_text(CURRENT_MIN_GLIBC)} or newer; Python {_text(python)}")
    if python == COMPAT_PYTHON:
        old = f"glibc {_text(glibc)} is older than the {_text(CURRENT_MIN_GLIBC)} that TFX 1.21 needs"
        return Stack("compat", f"{old}; Python {_text(python)}")
    raise SetupError(
        f"Python {_text(python)} needs glibc {_text(CURRENT_MIN_GLIBC)} or newer for TFX, and this host has "
        f"{_text(glibc)}; use Python 3.11: make setup PYTHON=python3.11"
    )


def _check_forced(glibc: Version, python: Version, forced: str) -> Stack:
    """Take the user's word, unless that stack can't be installed here."""
    if forced not in get_args(StackName):
        raise SetupError(f"There is no stack named {forced!r}; set PERENNIAL_STACK to compat or current, or unset it.")
    if forced == "compat" and python != COMPAT_PYTHON:
        raise SetupError(
            f"The compat stack needs Python 3.11, and this is {_text(python)}; name one: make setup PYTHON=python3.11"
        )
    if forced == "current" and glibc < CURRENT_MIN_GLIBC:
        raise SetupError(
            f"The current stack needs glibc {_text(CURRENT_MIN_GLIBC)} or newer, and this host has {_text(glibc)}; "
            "unset PERENNIAL_STACK, or try it in a Debian 13 root: make test-current"
        )
    return Stack(cast("StackName", forced), "PERENNIAL_STACK says so")


def _text(version: Version) -> str:
    return ".".join(map(str, version))
