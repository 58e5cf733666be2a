"""The runtime parameters of a package: read from a command line or a file, and checked before anything runs."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError, did_you_mean

_TYPES = pipeline_spec_pb2.ParameterType
_BOOLEANS = {"true": True, "false": False}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What a value of each type looks like in JSON; KFP keeps integers as doubles too.
_CHECKS: dict[int, Callable[[Any], bool]] = {
    _TYPES.STRING: lambda value: isinstance(value, str),
    _TYPES.NUMBER_INTEGER: lambda value: _is_number(value) and float(value).is_integer(),
    _TYPES.NUMBER_DOUBLE: _is_number,
    _TYPES.BOOLEAN: lambda value: isinstance(value, bool),
    _TYPES.LIST: lambda value: isinstance(value, list),
    _TYPES.STRUCT: lambda value: isinstance(value, dict),
}


def is_of_type(value: Any, parameter_type: int) -> bool:
    """Tell whether a JSON value fits a parameter's type (`ParameterType`)."""
    return _CHECKS.get(parameter_type, lambda _: False)(value)


def type_word(parameter_type: int) -> str:
    """Return KFP's name of a parameter type."""
    return str(_TYPES.ParameterTypeEnum.Name(parameter_type))


def parse_parameters(definitions: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return values that were typed as text, each as what its parameter's type wants.

    Args:
        definitions: The package's parameters (`ParameterSpec`), by name.
        texts: What was typed; names that the package does not know stay text.

    Raises:
        ConfigError: a text is no value of its type.
    """
    return {
        name: _parsed(name, text, definitions[name]) if name in definitions else text for name, text in texts.items()
    }


def _parsed(name: str, text: str, definition: Any) -> Any:
    if definition.parameter_type == _TYPES.STRING:
        return text
    try:
        return _BOOLEANS[text] if text in _BOOLEANS else json.loads(text)
    except ValueError as error:
        raise _wrong_type(name, text, definition) from error


def complete_parameters(definitions: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all parameters, defaults filled in; None for an optional one without a value.

    Raises:
        ConfigError: one is missing, unknown or of another type; all that are missing or unknown are named.
    """
    unknown = sorted(given.keys() - definitions.keys())
    if unknown:
        hints = "".join(did_you_mean(name, definitions) for name in unknown)
        raise ConfigError(f"The package has no parameters {unknown}. Expected {sorted(definitions)}.{hints}")
    missing = [name for name, one in definitions.items() if name not in given and not _has_default(one)]
    if missing:
        raise ConfigError(
            f"The package wants values that were not given: {sorted(missing)}. "
            f"Give each with --param NAME=VALUE, or all in a --param-file."
        )
    for name, value in given.items():
        if not is_of_type(value, definitions[name].parameter_type):
            raise _wrong_type(name, value, definitions[name])
    return {name: given[name] if name in given else _default(one) for name, one in definitions.items()}


def _has_default(definition: Any) -> bool:
    return bool(definition.HasField("default_value") or definition.is_optional)


def _default(definition: Any) -> Any:
    return json_format.MessageToDict(definition.default_value) if definition.HasField("default_value") else None


def _wrong_type(name: str, value: Any, definition: Any) -> ConfigError:
    return ConfigError(
        f"Parameter {name!r} has a value of another type. Expected {type_word(definition.parameter_type)}; "
        f"received {name}={value!r}. Correct the value."
    )
