"""What all packages have in common: they import, they say what they are for, and the light commands stay light."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from pipeline.sources import PACKAGES

HEAVY = {"tensorflow", "keras", "tfx", "apache_beam", "pandas", "pyarrow"}
# Runs a command and prints, as its last line, the packages that it loaded.
PROGRAM = """
import sys
from cli.main import perennial
perennial(standalone_mode=False)
print()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def _module_names() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            yield module.name


def _public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield functions and classes that the module defines, and public methods that its classes define."""
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if hasattr(member, "test_call"):
            # A class that TFX's @component made of a function: the function has the docstring.
            yield name, member.test_call
        elif hasattr(member, "_FUNCTION"):
            continue  # and the executor that it made beside it
        elif inspect.isclass(member):
            yield name, member
            yield from (
                (f"{name}.{key}", function)
                for key, function in vars(member).items()
                if not key.startswith("_") and (inspect.isfunction(function) or isinstance(function, property))
            )
        elif inspect.isfunction(member):
            yield name, member


@pytest.mark.parametrize("name", list(_module_names()))
def test_module_says_what_it_and_its_public_members_are_for(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring."
    silent = [member for member, value in _public_members(module) if not _own_docstring(value)]
    assert silent == []


def _own_docstring(value: Any) -> str | None:
    # Not inspect.getdoc: a docstring that is inherited says nothing about the heir. pydantic and dataclasses leave
    # None or a signature.
    text = value.__doc__
    return None if text is None or text.startswith(f"{getattr(value, '__name__', '')}(") else text


@pytest.mark.parametrize("package", PACKAGES)
def test_package_itself_holds_only_its_docstring(package):
    module = importlib.import_module(package)
    assert list(_public_members(module)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["ingest", "--help"],
        ["status", "--json", "--set"],
        ["status", "--set"],
        ["model", "list", "--set"],
    ],
    ids=" ".join,
)
def test_light_command_loads_nothing_heavy(arguments, tmp_path):
    root = [f"root={tmp_path}"] if arguments[-1] == "--set" else []
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments, *root], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "cli" in loaded
    assert not loaded & HEAVY


def test_planning_loads_no_tensorflow():
    """What the libraries print, and whether their sums can be repeated, is set before TensorFlow is imported."""
    program = (
        "import sys, pipeline.controller, pipeline.summary; print({'tensorflow', 'keras', 'tfx'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
