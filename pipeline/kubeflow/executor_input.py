"""What a task gets and gives: its `ExecutorInput` as KFP's driver makes it, its outputs as downstream sees them.

KFP keeps artifacts in its own ML Metadata between two tasks, and what comes out is not quite what went in: every number
is a double, truth is 1 or 0, types are gone. That is repeated here.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError, DataError
from pipeline.kubeflow.package_spec import TaskSpec
from pipeline.kubeflow.placeholders import text_of_value
from pipeline.kubeflow.runtime_parameters import is_of_type, type_word
from pipeline.kubeflow.uris import SCHEME_MARK, is_remote
from schemas.base import Record

_TYPES = pipeline_spec_pb2.ParameterType
# The output that the launcher keeps a task's log in.
LOGS = "executor-logs"


class OutputArtifact(Record):
    """An artifact as KFP's ML Metadata has it.

    Attributes:
        id: Its number there; tasks get it as the artifact's name.
    """

    id: int
    uri: str
    metadata: dict[str, Any] = {}


class TaskOutputs(Record):
    """What a finished task gave."""

    artifacts: dict[str, OutputArtifact] = {}
    parameters: dict[str, Any] = {}


class RunFacts(Record):
    """What a run's tasks may ask about the run itself.

    Attributes:
        name: Name of the run.
        pipeline: Name of the pipeline.
    """

    name: str
    pipeline: str
    parameters: dict[str, Any]
    pipeline_root: str
    created_at: datetime


def resolved_inputs(spec: TaskSpec, facts: RunFacts, outputs: Mapping[str, TaskOutputs]) -> Any:
    """Return a task's `ExecutorInput` before its outputs are provisioned; conditions are asked of that.

    Args:
        spec: The task.
        facts: The run.
        outputs: What the finished tasks gave, by name.

    Raises:
        ConfigError: an input is missing or of another type; on a cluster the task's driver would fail.

    Source:
        kubeflow/pipelines, backend/src/v2/driver/resolve.go, resolveInputs.
    """
    resolved = pipeline_spec_pb2.ExecutorInput()
    resolved.inputs.SetInParent()
    definitions = spec.component.input_definitions.parameters
    for name, source in spec.task.inputs.parameters.items():
        value = _parameter(spec, source, facts, outputs)
        if value is None:
            if not definitions[name].is_optional:
                raise _bad_input(spec, name, "a value", None)
            continue
        json_format.ParseDict(_of_type(spec, name, value), resolved.inputs.parameter_values[name])
    for name, source in spec.task.inputs.artifacts.items():
        wanted = source.task_output_artifact
        artifact = outputs[wanted.producer_task].artifacts.get(wanted.output_artifact_key)
        if artifact is None:
            raise _bad_input(spec, name, f"output {wanted.output_artifact_key!r} of {wanted.producer_task!r}", None)
        _add_artifact(resolved.inputs.artifacts[name], str(artifact.id), artifact.uri, artifact.metadata)
    for name, definition in definitions.items():
        has_value = name in resolved.inputs.parameter_values or definition.HasField("default_value")
        if not has_value and not definition.is_optional:
            raise _bad_input(spec, name, "a value", None)
    return resolved


def provision_outputs(executor_input: Any, spec: TaskSpec, *, task_root: str, output_file: Path, folder: Path) -> None:
    """Say in a task's `ExecutorInput` where its outputs go.

    Args:
        executor_input: Changed in place.
        spec: The task.
        task_root: URI, or folder, below which its artifacts lie.
        output_file: Where it says what it made.
        folder: Folder on this machine for its output parameters.

    Source:
        kubeflow/pipelines, backend/src/v2/driver/driver.go, provisionOutputs.
    """
    for name, definition in spec.component.output_definitions.artifacts.items():
        metadata = json_format.MessageToDict(definition.metadata)
        artifact = _add_artifact(executor_input.outputs.artifacts[name], name, f"{task_root}/{name}", metadata)
        artifact.type.CopyFrom(definition.artifact_type)
    # KFP's own; it is there for every task, and no business of ours.
    logs = _add_artifact(executor_input.outputs.artifacts[LOGS], LOGS, f"{task_root}/{LOGS}-0", {})
    logs.type.schema_title = "system.Artifact"
    for name in spec.component.output_definitions.parameters:
        executor_input.outputs.parameters[name].output_file = str(folder / name)
    executor_input.outputs.output_file = str(output_file)


def fill_defaults(executor_input: Any, spec: TaskSpec) -> None:
    """Give parameters without a value their defaults, which a condition does not see.

    Source:
        kubeflow/pipelines, backend/src/v2/component/launcher_v2.go, addDefaultParams.
    """
    values = executor_input.inputs.parameter_values
    for name, definition in spec.component.input_definitions.parameters.items():
        if name not in values and definition.HasField("default_value"):
            values[name].CopyFrom(definition.default_value)


def read_executor_output(path: Path) -> Any:
    """Return the `ExecutorOutput` that a task wrote, empty if it wrote none.

    Raises:
        DataError: it cannot be read.
    """
    output = pipeline_spec_pb2.ExecutorOutput()
    if path.is_file():
        try:
            json_format.Parse(path.read_text(encoding="utf-8"), output)
        except (json_format.ParseError, UnicodeDecodeError) as error:
            raise DataError(
                f"The task wrote an output file that is no ExecutorOutput: {error}. Expected the JSON form of KFP's "
                f"message; received it in {path}. Correct the task."
            ) from error
    return output


def merged_outputs(executor_input: Any, executor_output: Any, spec: TaskSpec, first_id: int) -> TaskOutputs:
    """Return what downstream sees of a task: where its artifacts are, the metadata that it added, its parameters.

    Args:
        executor_input: What it was given.
        executor_output: What it said.
        spec: The task.
        first_id: Number of its first artifact.

    Raises:
        DataError: it did not write a parameter, or what it wrote cannot be kept.

    Source:
        kubeflow/pipelines, backend/src/v2/component/launcher_v2.go, uploadOutputArtifacts and collectOutputParameters.
    """
    artifacts = {}
    made = ((name, several) for name, several in executor_input.outputs.artifacts.items() if name != LOGS)
    for number, (name, provisioned) in enumerate(sorted(made)):
        artifact = provisioned.artifacts[0]
        uri, metadata = artifact.uri, json_format.MessageToDict(artifact.metadata)
        if name in executor_output.artifacts and executor_output.artifacts[name].artifacts:
            said = executor_output.artifacts[name].artifacts[0]
            uri = said.uri or uri
            metadata.update(json_format.MessageToDict(said.metadata))
        kept = {"display_name": name, "store_session_info": _session(uri), **metadata}
        artifacts[name] = _recorded(first_id + number, uri, kept)
    parameters = {name: json_format.MessageToDict(value) for name, value in executor_output.parameter_values.items()}
    for name, parameter in executor_input.outputs.parameters.items():
        if name not in parameters:
            parameters[name] = _written_parameter(spec, name, Path(parameter.output_file))
    return TaskOutputs(artifacts=artifacts, parameters=parameters)


def imported_outputs(spec: TaskSpec, facts: RunFacts, first_id: int) -> TaskOutputs:
    """Return what an importer gives: the artifact that its URI names, unseen.

    Raises:
        ConfigError: it has no URI.

    Source:
        kubeflow/pipelines, backend/src/v2/component/importer_launcher.go, ImportSpecToMLMDArtifact.
    """
    importer = spec.executor.importer
    if importer.artifact_uri.WhichOneof("value") == "runtime_parameter":
        source = spec.task.inputs.parameters[importer.artifact_uri.runtime_parameter]
        uri = _parameter(spec, source, facts, {})
    else:
        uri = json_format.MessageToDict(importer.artifact_uri.constant)
    if not isinstance(uri, str) or not uri:
        raise _bad_input(spec, "uri", "where the imported artifact lies", uri)
    if is_remote(facts.pipeline_root) and not is_remote(uri):
        raise _bad_input(spec, "uri", "a URI in an object store, since the pipeline root is one", uri)
    (name,) = spec.component.output_definitions.artifacts
    session = json.dumps({"Provider": uri.partition(SCHEME_MARK)[0], "Params": {"fromEnv": "true"}})
    metadata = {**json_format.MessageToDict(importer.metadata), "store_session_info": session}
    return TaskOutputs(artifacts={name: _recorded(first_id, uri, metadata)})


def _parameter(spec: TaskSpec, source: Any, facts: RunFacts, outputs: Mapping[str, TaskOutputs]) -> Any:
    kind = source.WhichOneof("kind")
    if kind == "component_input_parameter":
        return facts.parameters.get(source.component_input_parameter)
    if kind == "task_output_parameter":
        wanted = source.task_output_parameter
        return outputs[wanted.producer_task].parameters.get(wanted.output_parameter_key)
    constant = json_format.MessageToDict(source.runtime_value.constant)
    about_run = {
        "{{$.pipeline_job_name}}": facts.name,
        "{{$.pipeline_job_resource_name}}": facts.name,
        "{{$.pipeline_job_uuid}}": facts.name,
        "{{$.pipeline_task_name}}": spec.name,
        "{{$.pipeline_task_uuid}}": "0",
        "{{$.pipeline_job_create_time_utc}}": facts.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return about_run.get(constant, constant) if isinstance(constant, str) else constant


def _of_type(spec: TaskSpec, name: str, value: Any) -> Any:
    definition = spec.component.input_definitions.parameters[name]
    if definition.parameter_type == _TYPES.STRING:
        return text_of_value(value)
    if not is_of_type(value, definition.parameter_type):
        raise _bad_input(spec, name, type_word(definition.parameter_type), value)
    return value


def _add_artifact(several: Any, name: str, uri: str, metadata: Mapping[str, Any]) -> Any:
    artifact = several.artifacts.add()
    artifact.name = name
    artifact.uri = uri
    # Between two tasks KFP loses the type, and says so with an empty one.
    artifact.type.instance_schema = ""
    artifact.metadata.CopyFrom(json_format.ParseDict(dict(metadata), struct_pb2.Struct()))
    return artifact


def _recorded(number: int, uri: str, metadata: Mapping[str, Any]) -> OutputArtifact:
    return OutputArtifact(id=number, uri=uri, metadata={key: _property(key, value) for key, value in metadata.items()})


def _property(key: str, value: Any) -> Any:
    """Return a metadata value as it comes back from ML Metadata (converter.go, StructValueToMLMDValue)."""
    if value is None:
        raise DataError(f"The task gave metadata {key!r} no value. KFP cannot keep null; leave the key out.")
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value


def _session(uri: str) -> str:
    scheme, mark, _ = uri.partition(SCHEME_MARK)
    return json.dumps({"Provider": scheme if mark else "", "Params": {"fromEnv": "true"}})


def _written_parameter(spec: TaskSpec, name: str, path: Path) -> Any:
    definition = spec.component.output_definitions.parameters[name]
    try:
        text = path.read_text(encoding="utf-8")
        value = text if definition.parameter_type == _TYPES.STRING else json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(
            f"Task {spec.node_id!r} did not write its output parameter {name!r}: {error}. Expected "
            f"{type_word(definition.parameter_type)} in {path}. Correct the task."
        ) from error
    if not is_of_type(value, definition.parameter_type):
        raise DataError(
            f"Task {spec.node_id!r} wrote an output parameter of another type. Expected "
            f"{type_word(definition.parameter_type)}; received {name}={value!r}. Correct the task."
        )
    return value


def _bad_input(spec: TaskSpec, name: str, expected: str, received: object) -> ConfigError:
    return ConfigError(
        f"Input {name!r} of task {spec.node_id!r} cannot be had. Expected {expected}; received {received!r}. "
        "Correct the value, or the task that should have given it."
    )
