"""Placeholders in a container's command, replaced as KFP's launcher replaces them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from core.errors import ConfigError
from pipeline.kubeflow.local_store import launcher_path

_EXECUTOR_INPUT = "{{$}}"
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_VARIABLE = re.compile(r"\$\$|\$\((?P<name>[^()]*)\)")


def filled_command(command: Sequence[str], executor_input: Any, local_root: Path) -> list[str]:
    """Return a command with its placeholders replaced.

    The launcher replaces text by text: first the whole input, then the others, also inside what was put in before. In
    the program itself it replaces the whole input only.

    Args:
        command: Program and arguments, as in the package.
        executor_input: The task's `ExecutorInput`, outputs provisioned and defaults filled in.
        local_root: Folder that stands for `/` in the launcher's local paths.

    Source:
        kubeflow/pipelines, backend/src/v2/component/launcher_v2.go, compileCmdAndArgs and getPlaceholders.
    """
    whole = executor_input_text(executor_input)
    replacements = sorted(_replacements(executor_input, local_root))
    filled = [text.replace(_EXECUTOR_INPUT, whole) for text in command]
    for index in range(1, len(filled)):
        for placeholder, value in replacements:
            filled[index] = filled[index].replace(placeholder, value)
    return filled


def check_parameters_wired(command: Sequence[str], executor_input: Any) -> None:
    """Refuse a command that names a parameter which the task does not take; its default alone does not help.

    Args:
        command: Program and arguments, as in the package.
        executor_input: The task's `ExecutorInput`, defaults not yet filled in.

    Raises:
        ConfigError: KFP's driver would fail.

    Source:
        kubeflow/pipelines, backend/src/v2/driver/util.go, resolveContainerArgs.
    """
    named = {name for text in command if "$.outputs" not in text for name in _PARAMETER.findall(text)}
    if missing := sorted(named - set(executor_input.inputs.parameter_values)):
        raise ConfigError(
            f"The command names parameters that the task does not take: {missing}. Expected an input of the task for "
            "each. Compile the package again with `perennial kubeflow compile`."
        )


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a part of a command, or of a variable's value, as Kubernetes hands it to a container.

    Args:
        text: The part.
        variables: The container's own environment variables.

    Example:
        >>> expanded("$(HOST):$(PORT) costs $$5, $$(HOST)", {"HOST": "db"})
        'db:$(PORT) costs $5, $(HOST)'

    Source:
        https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#entrypoint
    """
    return _VARIABLE.sub(
        lambda found: "$" if found[0] == "$$" else variables.get(found["name"], found[0]),
        text,
    )


def executor_input_text(executor_input: Any) -> str:
    """Return what `{{$}}` stands for: the message as JSON, in one line."""
    return _json(json_format.MessageToDict(executor_input))


def text_of_value(value: Any) -> str:
    """Return a parameter's value as the text that KFP makes of it.

    Args:
        value: A JSON value, numbers as doubles.

    Example:
        >>> [text_of_value(value) for value in ("x", 3.0, 0.5, 1e21, True, None, [1, "é"])]
        ['x', '3', '0.5', '1000000000000000000000', 'true', '', '[1,"é"]']

    Source:
        kubeflow/pipelines, backend/src/v2/metadata/converter.go, PbValueToText.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = format(Decimal(repr(float(value))), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return _json(value)


def _replacements(executor_input: Any, local_root: Path) -> Iterator[tuple[str, str]]:
    for side, artifacts in (("inputs", executor_input.inputs.artifacts), ("outputs", executor_input.outputs.artifacts)):
        for name, several in artifacts.items():
            if several.artifacts:
                uri = several.artifacts[0].uri
                yield f"{{{{$.{side}.artifacts['{name}'].uri}}}}", uri
                yield f"{{{{$.{side}.artifacts['{name}'].path}}}}", str(launcher_path(uri, local_root))
    for name, value in executor_input.inputs.parameter_values.items():
        yield f"{{{{$.inputs.parameters['{name}']}}}}", text_of_value(json_format.MessageToDict(value))
    for name, parameter in executor_input.outputs.parameters.items():
        yield f"{{{{$.outputs.parameters['{name}'].output_file}}}}", parameter.output_file


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
