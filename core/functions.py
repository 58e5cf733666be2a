"""Functions that a config names as `module:function`: found, or refused with a sentence. Nothing here calls them."""

import importlib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from core.errors import ConfigError, did_you_mean

_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")


def load_function(reference: str) -> Callable[..., Any]:
    """Return the function that `reference` names.

    Args:
        reference: `package.module:function`, importable from where the pipeline runs.

    Raises:
        ConfigError: the reference is malformed, or there is no such module, no such name in it, or it is no function.

    Example:
        >>> load_function("math:sqrt")(9.0)
        3.0
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"Function reference {reference!r} is malformed. Expected 'package.module:function'; "
            f"received {reference!r}. Name the module, a colon and the function."
        )
    module = _import_module(reference, match["module"])
    function = getattr(module, match["function"], None)
    if function is None:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(
            f"Function {reference!r} does not exist: module {module.__name__!r} has no {match['function']!r}. "
            f"Correct the name or define it.{did_you_mean(match['function'], public)}"
        )
    if not callable(function):
        raise ConfigError(
            f"{reference!r} is not a function. Expected something callable; received {type(function).__name__}. "
            "Name a function."
        )
    return function  # type: ignore[no-any-return]  # callable() narrows to `(...) -> object`


def _import_module(reference: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists but imports something missing is another problem, with another fix.
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"Module {name!r} of function {reference!r} does not exist. Expected an importable module; "
                f"received module={name!r}. Correct the name, or put its folder on PYTHONPATH."
            ) from error
        raise ConfigError(_import_failed(reference, name, error)) from error
    except Exception as error:
        raise ConfigError(_import_failed(reference, name, error)) from error


def _import_failed(reference: str, name: str, error: Exception) -> str:
    return (
        f"Module {name!r} of function {reference!r} cannot be imported. Expected an importable module; "
        f"received {type(error).__name__}: {error}. Make `python -c 'import {name}'` work."
    )
