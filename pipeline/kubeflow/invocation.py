"""What KFP asks of a task, as TFX's executors take it, and their answer as KFP takes it.

KFP names artifacts by URIs of an object store, which TensorFlow and TFX cannot open; its launcher has the files in
folders. So an executor gets paths, and what it says of them is put back: nobody after this task may see one.
"""

import copy
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.orchestration.portable import outputs_utils
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.orchestration.portable.python_executor_operator import run_with_executor
from tfx.utils import import_utils

from core.errors import ConfigError
from pipeline.kubeflow.publication import Channels
from pipeline.kubeflow.uris import check_brought, local_path

# Inputs of the package's own, for the task's command line; no executor knows them.
TASK_PARAMETERS = ("run_id", "code_digest")
# An output that KFP gives every task and its launcher fills; TFX could not even import its type.
LOGS_OUTPUT = "executor-logs"


@dataclass(frozen=True)
class Invocation:
    """What KFP asks of a task.

    Attributes:
        inputs: Artifacts by channel, at their URIs.
        outputs: Artifacts to fill, at their URIs.
        exec_properties: The node's parameters.
        output_file: Where the launcher looks for what the executor says of its outputs.
    """

    inputs: Channels
    outputs: Channels
    exec_properties: dict[str, Any]
    output_file: Path


def read_invocation(executor_input: str, inputs_spec: str | None) -> Invocation:
    """Return what KFP asks.

    Args:
        executor_input: `{{$}}` as the launcher fills it in: an `ExecutorInput` as JSON.
        inputs_spec: TFX's `ComponentInputsSpec` as JSON, which tells integers from other numbers; None in old packages.

    Raises:
        ConfigError: one of the texts is none of that.
    """
    message = _parsed(executor_input, pipeline_spec_pb2.ExecutorInput())
    spec = _parsed(inputs_spec, pipeline_spec_pb2.ComponentInputsSpec()) if inputs_spec else None
    for name in TASK_PARAMETERS:
        message.inputs.parameter_values.pop(name, None)
    message.outputs.artifacts.pop(LOGS_OUTPUT, None)
    _name_types(message.inputs.artifacts, spec)
    return Invocation(
        inputs=_channels(message.inputs.artifacts),
        outputs=_channels(message.outputs.artifacts),
        exec_properties=kubeflow_v2_entrypoint_utils.parse_execution_properties(
            message.inputs.parameter_values, message.inputs.parameters, spec
        ),
        output_file=Path(message.outputs.output_file),
    )


def check_inputs(inputs: Channels) -> None:
    """Refuse to run on an input that the launcher did not bring.

    Raises:
        LineageError: its folder is missing or empty.
    """
    for key, artifact in _each(inputs):
        check_brought(key, artifact.uri)


def run_executor(class_path: str, invocation: Invocation, *, execution_id: int, beam_args: list[str]) -> Any:
    """Run a TFX executor where its files are, and return what it says of its outputs, with URIs again.

    Args:
        class_path: Dotted path of the executor.
        invocation: What KFP asks, its inputs as ML Metadata knows them.
        execution_id: Number of the execution, which some executors name temporary folders by.
        beam_args: Options of Beam.

    Returns:
        TFX's `ExecutorOutput`.
    """
    executor_class = import_utils.import_class_by_path(class_path)
    outputs = _at_paths(invocation.outputs)
    for _, artifact in _each(outputs):
        # A killed attempt in the same container may have left half of it.
        shutil.rmtree(artifact.uri, ignore_errors=True)
    outputs_utils.make_output_dirs(outputs)
    with TemporaryDirectory() as temporary:
        info = ExecutionInfo(
            execution_id=execution_id,
            input_dict=_at_paths(invocation.inputs),
            output_dict=outputs,
            exec_properties=invocation.exec_properties,
            execution_output_uri=f"{temporary}/executor_output",
            tmp_dir=temporary,
        )
        common = {
            "unique_id": str(execution_id),
            "tmp_dir": temporary,
            "executor_output_uri": info.execution_output_uri,
        }
        if issubclass(executor_class, BaseBeamExecutor):
            context: Any = BaseBeamExecutor.Context(beam_pipeline_args=beam_args, extra_flags=beam_args, **common)
        else:
            context = BaseExecutor.Context(extra_flags=beam_args, **common)
        result = run_with_executor(info, executor_class(context))
    _put_uris_back(result, invocation)
    return result


def write_answer(invocation: Invocation, result: Any) -> None:
    """Write for the launcher what the executor says of its outputs; it carries that on to later tasks.

    Args:
        invocation: What KFP asked.
        result: TFX's `ExecutorOutput`, with URIs.
    """
    answer = pipeline_spec_pb2.ExecutorOutput()
    for key, artifact in _each(invocation.outputs):
        said = copy.deepcopy(artifact)
        if found := result.output_artifacts[key].artifacts:
            said.set_mlmd_artifact(found[0])
        outputs_utils.tag_output_artifacts_with_version({key: [said]})
        # Without a name TFX would warn; the launcher keeps its own.
        runtime = kubeflow_v2_entrypoint_utils.to_runtime_artifact(said, {said.id: ""})
        for name in [name for name, value in runtime.metadata.fields.items() if value.HasField("null_value")]:
            del runtime.metadata.fields[name]  # the launcher cannot store it
        answer.artifacts[key].artifacts.append(runtime)
    invocation.output_file.parent.mkdir(parents=True, exist_ok=True)
    invocation.output_file.write_text(json_format.MessageToJson(answer), encoding="utf-8")


def _parsed(text: str, message: Any) -> Any:
    try:
        return json_format.Parse(text, message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ConfigError(
            f"{type(message).__name__} cannot be read: {error}. Expected what KFP's launcher puts in place of "
            f"{{{{$}}}}; received {text!r:.80}. Compile the package again with `perennial kubeflow compile`."
        ) from error


def _name_types(artifacts: Any, spec: Any) -> None:
    """Write down the types of inputs as the package has them, since KFP's driver tells a task none of them."""
    for key, found in artifacts.items():
        for artifact in found.artifacts:
            if not artifact.type.instance_schema and not artifact.type.schema_title:
                if spec is None or key not in spec.artifacts:
                    raise ConfigError(
                        f"The type of input {key!r} is missing. Expected it in --json_serialized_inputs_spec_args, as "
                        "TFX compiles it. Compile the package again with `perennial kubeflow compile`."
                    )
                artifact.type.CopyFrom(spec.artifacts[key].artifact_type)


def _channels(artifacts: Any) -> Channels:
    """Return TFX's artifacts by channel; an optional one that has nothing is left out, as TFX's launcher does."""
    channels = kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(artifacts)
    for _, artifact in _each(channels):
        # TFX makes one up from KFP's name; ML Metadata's is another.
        artifact.mlmd_artifact.ClearField("id")
    return {key: found for key, found in channels.items() if found}


def _each(channels: Channels) -> Iterable[tuple[str, Any]]:
    return ((key, artifact) for key, artifacts in channels.items() for artifact in artifacts)


def _at_paths(channels: Channels) -> Channels:
    placed = copy.deepcopy(channels)
    for _, artifact in _each(placed):
        artifact.uri = str(local_path(artifact.uri))
    return placed


def _put_uris_back(result: Any, invocation: Invocation) -> None:
    """Replace every path of this task, wherever an executor wrote one down: a model's in its blessing, for example."""
    artifacts = [artifact for channels in (invocation.inputs, invocation.outputs) for _, artifact in _each(channels)]
    uris = {str(local_path(artifact.uri)): artifact.uri for artifact in artifacts}
    # Of two paths, one below the other, the longer is meant.
    paths = sorted((path for path, uri in uris.items() if path != uri), key=len, reverse=True)
    for said in (artifact for channel in result.output_artifacts.values() for artifact in channel.artifacts):
        said.uri = uris.get(said.uri, said.uri)
        for properties in (said.properties, said.custom_properties):
            for name in list(properties):
                for path in paths:
                    text = properties[name].string_value
                    if path in text:
                        properties[name].string_value = text.replace(path, uris[path])
