"""Whether a task runs: its CEL condition over the inputs it would get, as KFP's driver asks it."""

import json
from typing import Any

from cel_expr_python import cel
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError

_EXECUTOR_INPUT = pipeline_spec_pb2.ExecutorInput.DESCRIPTOR.full_name


def condition_holds(condition: str, executor_input: Any) -> bool:
    """Tell whether a condition is true of a task's inputs; an empty one is.

    Args:
        condition: A CEL expression over the fields of `ExecutorInput`.
        executor_input: The task's `ExecutorInput`, outputs not yet provisioned.

    Raises:
        ConfigError: the condition cannot be evaluated; on a cluster the task's driver would fail.

    Source:
        kubeflow/pipelines, backend/src/v2/expression/expression.go, Condition.
    """
    if not condition:
        return True
    try:
        result = (
            _environment()
            .compile(condition)
            .eval(data={"inputs": executor_input.inputs, "outputs": executor_input.outputs})
        )
    except RuntimeError as error:
        raise _not_evaluated(condition, str(error)) from error
    value = result.value()
    if not isinstance(value, bool):
        raise _not_evaluated(condition, str(value))
    return value


def _environment() -> Any:
    parse_json = cel.Overload("parse_json", cel.Type.DYN, [cel.Type.STRING], impl=json.loads)
    return cel.NewEnv(
        variables={
            "inputs": cel.Type(f"{_EXECUTOR_INPUT}.Inputs"),
            "outputs": cel.Type(f"{_EXECUTOR_INPUT}.Outputs"),
        },
        functions=[cel.FunctionDecl("parseJson", [parse_json])],
    )


def _not_evaluated(condition: str, reason: str) -> ConfigError:
    return ConfigError(
        f"Condition {condition!r} cannot be evaluated: {reason.strip()}. Expected an expression over the task's inputs "
        "that is true or false. Look at the outputs of the tasks before it."
    )
