"""What this host has: C library, machine, compilers, headers, pip.

Only looks and complains. Not in here: choosing a stack, installing.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from tools.stack import SetupError, Version

# The package of Debian and Ubuntu that brings each thing that may be missing.
DEBIAN_PACKAGES = {
    "a C compiler": "gcc",
    "a C++ compiler": "g++",
    "Python.h": "python3-dev",
    "pip or ensurepip": "python3-venv",
}


def glibc_version() -> Version | None:
    """Read the version of glibc, None where the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return parse_version(version) if name == "glibc" else None


def parse_version(text: str) -> Version:
    """Take the first two numbers of a version.

    Example:
        >>> parse_version("2.36")
        (2, 36)
    """
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def check_platform(system: str, machine: str) -> None:
    """Refuse a host for which TFX publishes no wheels.

    Raises:
        SetupError: it isn't Linux on x86-64.
    """
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(f"TFX has wheels for Linux on x86_64, and this is {system} on {machine}; use such a machine.")


def check_prerequisites(python: str) -> None:
    """Name everything at once that the installation would trip over later.

    pyfarmhash and crcmod, which TFX needs, come as sources only: hence compilers and Python.h.

    Args:
        python: Path of the Python outside of any virtual environment.

    Raises:
        SetupError: something is missing.
    """
    missing = [*missing_build_tools(), *([] if find_pip_source(python) else ["pip or ensurepip"])]
    if missing:
        raise SetupError(missing_sentence(missing, python))


def missing_sentence(missing: list[str], python: str) -> str:
    """Say what is missing, why it is needed, and the command that brings it."""
    listed = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
    packages = " ".join(DEBIAN_PACKAGES[thing] for thing in missing)
    return (
        f"Missing for {python}: {listed}; parts of TFX are built from source, "
        f"so on Debian or Ubuntu run: apt-get install {packages}"
    )


def missing_build_tools() -> list[str]:
    """List what is missing to build a C++ extension; a compiler counts if it finds its own headers."""
    compilers = {"a C compiler": _compiler("CC", "cc"), "a C++ compiler": _compiler("CXX", "c++")}
    missing = [name for name, command in compilers.items() if shutil.which(command[0]) is None]
    if not missing and not _compiles(compilers["a C++ compiler"], "#include <string>"):
        missing.append("a C++ compiler")
    if not any(Path(folder, "Python.h").is_file() for folder in _include_folders()):
        missing.append("Python.h")
    return missing


def find_pip_source(python: str) -> str:
    """Tell where pip can come from: "pip" of that Python, its "ensurepip", or "" for nowhere."""
    return next((name for name in ("pip", "ensurepip") if _has_module(python, name)), "")


def host_description() -> tuple[str, str]:
    """Name the operating system and the machine type."""
    return platform.system(), platform.machine()


def _has_module(python: str, name: str) -> bool:
    return subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0


def _compiler(variable: str, default: str) -> list[str]:
    """The command that setuptools will use: the environment's, else the one Python was built with."""
    return shlex.split(os.environ.get(variable) or sysconfig.get_config_var(variable) or default)


def _include_folders() -> list[str]:
    return [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]


def _compiles(compiler: list[str], source: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [*compiler, "-x", "c++", "-c", "-", "-o", os.path.join(folder, "probe.o")]
        return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0
