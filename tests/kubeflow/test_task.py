"""A task runs an executor where the launcher has put the files, and is recorded as the node of a local run is."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, LineageError, NodeError, TrainingError
from lineage.runs import node_failures, node_runs
from lineage.store import opened_store
from pipeline.kubeflow.options import IMAGE_VARIABLE
from pipeline.kubeflow.task import main, usable_cpus
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE
from pipeline.sources import digest_of_code

STORE = "minio://mlpipeline/v2/artifacts"
EXECUTORS = """
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types.standard_artifacts import Examples, Model

class Spans(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (examples,) = output_dict["examples"]
        open(examples.uri + "/data", "w").write("42")
        examples.span = exec_properties["span"]
        examples.set_int_custom_property("span", exec_properties["span"])
        examples.set_float_custom_property("mean", 0.5)
        examples.set_string_custom_property("spans", "[]")

class Judge(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (examples,) = input_dict["examples"]
        (blessing,) = output_dict["blessing"]
        open(blessing.uri + "/BLESSED", "w").write(open(examples.uri + "/data").read())
        blessing.set_string_custom_property("current_model", examples.uri)
        blessing.set_string_custom_property("file", f"see {examples.uri}/data")
        blessing.set_int_custom_property("current_model_id", examples.id)
        blessing.set_int_custom_property("span", examples.get_int_custom_property("span"))

class Broken(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        from core.errors import TrainingError
        raise TrainingError("The loss is NaN.")

class Odd(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        raise ValueError("odd")

class FromNothing(Spans):
    def Do(self, input_dict, output_dict, exec_properties):
        import os
        assert not os.listdir(output_dict["examples"][0].uri)
        super().Do(input_dict, output_dict, exec_properties)

class Lacking(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        from core.functions import load_function
        load_function("acme_features:preprocess")

class Optional(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        try:
            import acme_features
        except ImportError:
            raise ValueError("odd")
"""


def kind_of(title: str) -> dict[str, str]:
    return {"instanceSchema": f"title: {title}\ntype: object\n"}


def an_artifact(uri: str, kind: dict[str, str], metadata: dict[str, Any]) -> dict[str, Any]:
    return {"artifacts": [{"name": "17", "type": kind, "uri": uri, "metadata": metadata}]}


class Launcher:
    """Calls tasks as KFP's launcher does, with its folders below one of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"sqlite:///{root}/metadata.sqlite"

    def folder(self, node: str, key: str) -> Path:
        return self.root / "minio/mlpipeline/v2/artifacts" / node / key

    def uri(self, node: str, key: str) -> str:
        return f"{STORE}/{node}/{key}"

    def run(
        self,
        node: str,
        executor: str,
        *,
        inputs: dict[str, tuple[str, dict[str, Any]]] | None = None,
        outputs: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
        metadata: str | None = None,
        code_digest: str | None = None,
    ) -> int:
        """Run a task and return its exit code.

        Args:
            node: Id of the node.
            executor: Name of one of `EXECUTORS`, or a dotted path.
            inputs: Type and what KFP says of the artifact, by channel.
            outputs: Type by channel.
            parameters: Texts and integers.
            metadata: Another URL of ML Metadata.
            code_digest: Of the code that planned the run, if not this one.
        """
        asked = {
            # KFP's driver leaves the types of inputs out, and adds an output of its own.
            "inputs": {
                "artifacts": {key: {"artifacts": [said]} for key, (_, said) in (inputs or {}).items()},
                "parameterValues": {**(parameters or {}), "run_id": "run-1", "code_digest": digest_of_code()},
            },
            "outputs": {
                "artifacts": {
                    **{key: an_artifact(self.uri(node, key), kind_of(t), {}) for key, t in (outputs or {}).items()},
                    "executor-logs": an_artifact(self.uri(node, "logs"), {"schemaTitle": "system.Artifact"}, {}),
                },
                "outputFile": str(self.output_file(node)),
            },
        }
        spec = {
            "artifacts": {key: {"artifactType": kind_of(title)} for key, (title, _) in (inputs or {}).items()},
            "parameters": {
                name: {"parameterType": "NUMBER_INTEGER" if isinstance(value, int) else "STRING"}
                for name, value in (parameters or {}).items()
            },
        }
        words = ["--node-id", node, "--node-type", f"type.of.{node}", "--pipeline", "flights", "--run-id", "run-1"]
        words += ["--code-digest", code_digest or digest_of_code(), "--metadata", metadata or self.url]
        words += ["--executor_class_path", executor if "." in executor else f"task_executors.{executor}"]
        words += ["--json_serialized_invocation_args", json.dumps(asked)]
        return main([*words, "--json_serialized_inputs_spec_args", json.dumps(spec), "--runner=FnApiRunner"])

    def output_file(self, node: str) -> Path:
        return self.root / "outputs" / node / "executor_output.json"

    def answer(self, node: str, key: str) -> dict[str, Any]:
        """Return what the task says of an output, as the launcher hands it on."""
        found = json.loads(self.output_file(node).read_text())["artifacts"][key]["artifacts"]
        return dict(found[0])

    def carried(self, node: str, key: str, title: str) -> tuple[str, dict[str, Any]]:
        """Return an output as a later task is told of it."""
        said = self.answer(node, key)
        known = {"display_name": key, "store_session_info": "{}"}
        return title, an_artifact(said["uri"], {"instanceSchema": ""}, {**said["metadata"], **known})["artifacts"][0]

    def nodes(self) -> dict[str, Any]:
        """Return what ML Metadata says of the run."""
        with opened_store(self.url) as store:
            return node_runs(store, "run-1")

    def failure(self, node: str) -> tuple[str, str]:
        """Return class and text of what a node recorded of its failure."""
        with opened_store(self.url) as store:
            failure = node_failures(store, "run-1")[node]
        return failure.error_class, failure.text


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    (tmp_path / "task_executors.py").write_text(EXECUTORS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "task_executors", raising=False)
    monkeypatch.setenv(LOCAL_ROOT_VARIABLE, str(tmp_path))
    return Launcher(tmp_path)


@pytest.fixture
def make_spans(launcher: Launcher) -> Callable[..., int]:
    """Run ExampleGen on span 7."""

    def make(executor: str = "Spans", **options: Any) -> int:
        parameters = {"span": 7, "how": "ours"}
        return launcher.run(
            "ExampleGen", executor, outputs={"examples": "tfx.Examples"}, parameters=parameters, **options
        )

    return make


@pytest.fixture
def judge(launcher: Launcher) -> Callable[..., int]:
    """Run Gate on the examples."""

    def run(examples: tuple[str, dict[str, Any]]) -> int:
        return launcher.run("Gate", "Judge", inputs={"examples": examples}, outputs={"blessing": "tfx.ModelBlessing"})

    return run


def test_outputs_are_named_by_uri_and_their_properties_travel(
    launcher: Launcher, make_spans: Callable[..., int]
) -> None:
    assert make_spans() == 0
    assert (launcher.folder("ExampleGen", "examples") / "data").read_text() == "42"
    said = launcher.answer("ExampleGen", "examples")
    assert said["uri"] == f"{STORE}/ExampleGen/examples"
    assert said["metadata"].pop("tfx_version")
    assert said["metadata"] == {"span": 7.0, "custom:span": 7.0, "mean": 0.5, "spans": "[]"}


def test_no_path_leaks_and_inputs_have_the_numbers_of_ml_metadata(
    launcher: Launcher, make_spans: Callable[..., int], judge: Callable[..., int]
) -> None:
    make_spans()
    assert judge(launcher.carried("ExampleGen", "examples", "tfx.Examples")) == 0
    properties = launcher.nodes()["Gate"].outputs["blessing"].properties
    with opened_store(launcher.url) as store:
        (examples,) = store.get_artifacts_by_uri(f"{STORE}/ExampleGen/examples")
    assert properties["current_model"] == f"{STORE}/ExampleGen/examples"
    assert properties["file"] == f"see {STORE}/ExampleGen/examples/data"
    assert properties["current_model_id"] == examples.id
    assert properties["span"] == 7
    assert isinstance(properties["span"], int)
    assert str(launcher.root) not in launcher.output_file("Gate").read_text()


def test_what_ml_metadata_does_not_know_is_registered_without_what_kfp_adds(
    launcher: Launcher, make_spans: Callable[..., int], judge: Callable[..., int]
) -> None:
    make_spans()
    examples = launcher.carried("ExampleGen", "examples", "tfx.Examples")
    Path(launcher.url.removeprefix("sqlite:///")).unlink()
    assert judge(examples) == 0
    with opened_store(launcher.url) as store:
        (registered,) = store.get_artifacts_by_uri(f"{STORE}/ExampleGen/examples")
    properties = {name: value.WhichOneof("value") for name, value in registered.custom_properties.items()}
    assert properties.pop("tfx_version") == "string_value"
    assert properties == {"span": "int_value", "mean": "double_value", "spans": "string_value"}
    assert registered.properties["span"].int_value == 7


def test_a_node_is_recorded_as_a_local_run_records_it(
    launcher: Launcher, make_spans: Callable[..., int], judge: Callable[..., int]
) -> None:
    make_spans()
    judge(launcher.carried("ExampleGen", "examples", "tfx.Examples"))
    with opened_store(launcher.url) as store:
        executions = {execution.type: execution for execution in store.get_executions()}
        contexts = {
            name: {context.type: context.name for context in store.get_contexts_by_execution(execution.id)}
            for name, execution in executions.items()
        }
        (read,) = [e for e in store.get_events_by_execution_ids([executions["type.of.Gate"].id]) if e.type == e.INPUT]
        (run,) = store.get_contexts_by_type("pipeline_run")
        parents = [parent.name for parent in store.get_parent_contexts_by_context(run.id)]
    assert contexts["type.of.ExampleGen"] == {
        "pipeline": "flights",
        "pipeline_run": "run-1",
        "node": "flights.ExampleGen",
    }
    assert parents == ["flights"]
    assert [step.key or step.index for step in read.path.steps] == ["examples", 0]
    properties = executions["type.of.ExampleGen"].custom_properties
    assert {name: properties[name].WhichOneof("value") for name in properties} == {
        "span": "int_value",
        "how": "string_value",
    }


def test_a_task_that_is_started_again_has_the_same_artifact(launcher: Launcher, make_spans: Callable[..., int]) -> None:
    # The second finds the first's files where the container lives on, and starts from nothing.
    assert [make_spans(), make_spans("FromNothing")] == [0, 0]
    with opened_store(launcher.url) as store:
        assert [e.last_known_state for e in store.get_executions()] == [store.get_executions()[0].COMPLETE] * 2
        assert len(store.get_artifacts()) == 1


def test_a_failure_of_ours_is_said_recorded_and_in_the_exit_code(
    launcher: Launcher, make_spans: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_spans("Broken") == TrainingError.exit_code
    assert capsys.readouterr().err == "Training error: Node 'ExampleGen' failed. The loss is NaN.\n"
    assert launcher.failure("ExampleGen") == ("TrainingError", "The loss is NaN.")
    assert launcher.nodes()["ExampleGen"].state == "FAILED"
    assert make_spans() == 0
    assert launcher.nodes()["ExampleGen"].state == "COMPLETE"


@pytest.mark.parametrize("executor", ["Odd", "Optional"], ids=["plain", "after an optional import"])
def test_any_other_failure_is_shown_with_its_traceback(
    launcher: Launcher, make_spans: Callable[..., int], capsys: pytest.CaptureFixture[str], executor: str
) -> None:
    assert make_spans(executor) == NodeError.exit_code
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("Node failed: Node 'ExampleGen' failed. ValueError: odd\n")
    assert launcher.failure("ExampleGen") == ("NodeError", "ValueError: odd")


@pytest.mark.parametrize("executor", ["Lacking", "acme_features.Executor"], ids=["in user code", "executor itself"])
def test_a_module_that_the_image_lacks_is_named_with_the_image(
    launcher: Launcher,
    make_spans: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, "registry.example/perennial:7")
    assert make_spans(executor) == ConfigError.exit_code
    name, text = launcher.failure("ExampleGen")
    assert name == "ConfigError"
    assert text.startswith("Module 'acme_features' is not in image 'registry.example/perennial:7'. ")
    assert "`kubeflow.image`" in text


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_an_input_that_was_not_brought_is_named_with_its_uri(
    launcher: Launcher, make_spans: Callable[..., int], judge: Callable[..., int], left: str
) -> None:
    make_spans()
    folder = launcher.folder("ExampleGen", "examples")
    shutil.rmtree(folder)
    if left == "an empty folder":
        folder.mkdir()
    assert judge(launcher.carried("ExampleGen", "examples", "tfx.Examples")) == LineageError.exit_code
    name, text = launcher.failure("Gate")
    assert (name, LineageError.blames_span) == ("LineageError", False)
    assert text.startswith(f"Input 'examples' has no files. Expected what lies at '{STORE}/ExampleGen/examples'")
    assert f"received {left}." in text


def test_a_plan_of_other_code_is_refused(
    launcher: Launcher, make_spans: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else lineage would name code that never ran."""
    monkeypatch.setenv(IMAGE_VARIABLE, "perennial:old")
    assert make_spans(code_digest="0123456789abcdef") == ConfigError.exit_code
    name, text = launcher.failure("ExampleGen")
    assert name == "ConfigError"
    assert "image 'perennial:old' is not the code that planned this run. Expected digest 0123456789ab" in text


def test_a_text_that_is_no_executor_input_is_refused(launcher: Launcher, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--node-id", "Gate", "--node-type", "t", "--pipeline", "flights", "--run-id", "run-1"]
    words += [
        "--code-digest",
        digest_of_code(),
        "--metadata",
        launcher.url,
        "--executor_class_path",
        "x",
        "--json_serialized_invocation_args",
        "{{$}}",
    ]
    assert main(words) == ConfigError.exit_code
    assert "ExecutorInput cannot be read" in capsys.readouterr().err


def test_a_store_of_another_kind_is_refused(make_spans: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert make_spans(metadata="postgresql://me:secret@db/metadata") == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "Use MySQL" in said
    assert "secret" not in said


def test_a_url_comes_from_the_environment(
    launcher: Launcher, make_spans: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METADATA_URL", launcher.url)
    assert make_spans(metadata="env:METADATA_URL") == 0
    assert launcher.nodes().keys() == {"ExampleGen"}


@pytest.mark.parametrize(
    ("text", "most"), [("50000 100000\n", 0.5), ("max 100000\n", 1e9), ("odd", 1e9), (None, 1e9)], ids=str
)
def test_a_container_uses_no_more_processors_than_its_quota(tmp_path: Path, text: str | None, most: float) -> None:
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    assert usable_cpus(file) == min(len(os.sched_getaffinity(0)), most)


def test_help_names_every_flag_without_loading_tfx() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pipeline.kubeflow.task", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--json_serialized_inputs_spec_args" in result.stdout
    assert not re.search(r"\|\s+(tfx|tensorflow|apache_beam|kfp)\n", result.stderr)
