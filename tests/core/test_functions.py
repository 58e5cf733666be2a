"""Functions named in a config are found, or refused with a sentence that says how to fix it."""

import math
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.functions import load_function


def test_named_function_is_found() -> None:
    assert load_function("math:sqrt") is math.sqrt


@pytest.mark.parametrize(
    "reference",
    ["", "sqrt", "math.sqrt", "math:", ":sqrt", "math:sqrt:x", "a b:c", "math:sqrt\n"],
    ids=["empty", "no colon", "dot", "no function", "no module", "two colons", "space", "newline"],
)
def test_malformed_reference_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError, match=r"is malformed. Expected 'package.module:function'"):
        load_function(reference)


@pytest.mark.parametrize("module", ["no_such_module", "core.no_such_module", "no_such.module"])
def test_missing_module_is_named(module: str) -> None:
    with pytest.raises(ConfigError, match=rf"Module '{module}' .* does not exist"):
        load_function(f"{module}:function")


def test_missing_function_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"has no 'digest_of_fil'.*Did you mean 'digest_of_file'\?"):
        load_function("core.digests:digest_of_fil")


def test_constant_is_no_function() -> None:
    with pytest.raises(ConfigError, match=r"'math:pi' is not a function.*received float"):
        load_function("math:pi")


@pytest.mark.parametrize(
    ("source", "received"),
    [("1 / 0", "ZeroDivisionError"), ("import no_such_dependency", "No module named 'no_such_dependency'")],
    ids=["raises", "missing dependency"],
)
def test_module_that_fails_to_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, received: str
) -> None:
    name = f"broken_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"cannot be imported.*{received}"):
        load_function(f"{name}:function")
