"""A task runs an executor where the launcher has put the files, and is recorded as the node of a local run is."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lineage.runs import node_runs
from lineage.store import opened_store
from pipeline.kubeflow.task import main
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE

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
        raise TrainingError("The loss is NaN.") if exec_properties["how"] == "ours" else ValueError("odd")

class Half(Spans):
    def Do(self, input_dict, output_dict, exec_properties):
        import os
        assert not os.listdir(output_dict["examples"][0].uri)
        super().Do(input_dict, output_dict, exec_properties)

class Lacking(BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        import acme_features
"""


def runtime_artifact(kind: str, uri: str, **metadata: Any) -> dict[str, Any]:
    """Return an artifact as KFP describes it."""
    return {"artifacts": [{"name": "1", "type": {"schemaTitle": kind}, "uri": uri, "metadata": metadata}]}


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
        inputs: dict[str, Any] | None = None,
        outputs: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
        run_id: str = "run-1",
        url: str | None = None,
    ) -> int:
        """Return the exit code."""
        types = {name: "NUMBER_INTEGER" if isinstance(v, int) else "STRING" for name, v in (parameters or {}).items()}
        asked = {
            "inputs": {"artifacts": inputs or {}, "parameterValues": {**(parameters or {}), "run_id": run_id}},
            "outputs": {
                "artifacts": {
                    key: runtime_artifact(kind, self.uri(node, key)) for key, kind in (outputs or {}).items()
                },
                "outputFile": str(self.output_file(node)),
            },
        }
        spec = {"parameters": {name: {"parameterType": kind} for name, kind in types.items()}}
        words = ["--node-id", node, "--node-type", f"type.of.{node}", "--pipeline", "flights", "--run-id", run_id]
        words += ["--metadata", url or self.url, "--executor_class_path", executor]
        words += ["--json_serialized_invocation_args", json.dumps(asked)]
        return main([*words, "--json_serialized_inputs_spec_args", json.dumps(spec), "--runner=FnApiRunner"])

    def output_file(self, node: str) -> Path:
        return self.root / "outputs" / node / "executor_output.json"

    def answer(self, node: str, key: str) -> dict[str, Any]:
        """Return what the task says of an output, as the launcher hands it on."""
        found = json.loads(self.output_file(node).read_text())["artifacts"][key]["artifacts"]
        return dict(found[0])

    def carried(self, node: str, key: str, kind: str) -> dict[str, Any]:
        """Return an output as a later task is told of it."""
        said = self.answer(node, key)
        return runtime_artifact(kind, said["uri"], **said["metadata"])


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    (tmp_path / "task_executors.py").write_text(EXECUTORS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "task_executors", raising=False)
    monkeypatch.setenv(LOCAL_ROOT_VARIABLE, str(tmp_path))
    return Launcher(tmp_path)


@pytest.fixture
def make_spans(launcher: Launcher) -> Callable[..., int]:
    def make(executor: str = "task_executors.Spans", **options: Any) -> int:
        outputs = {"examples": "tfx.Examples"}
        return launcher.run("ExampleGen", executor, outputs=outputs, parameters={"span": 7}, **options)

    return make


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
    launcher: Launcher, make_spans: Callable[..., int]
) -> None:
    make_spans()
    inputs = {"examples": launcher.carried("ExampleGen", "examples", "tfx.Examples")}
    assert launcher.run("Gate", "task_executors.Judge", inputs=inputs, outputs={"blessing": "tfx.ModelBlessing"}) == 0
    with opened_store(launcher.url) as store:
        properties = node_runs(store, "run-1")["Gate"].outputs["blessing"].properties
        (examples,) = store.get_artifacts_by_uri(f"{STORE}/ExampleGen/examples")
    assert properties["current_model"] == f"{STORE}/ExampleGen/examples"
    assert properties["file"] == f"see {STORE}/ExampleGen/examples/data"
    assert properties["current_model_id"] == examples.id
    assert properties["span"] == 7
    assert isinstance(properties["span"], int)
    assert str(launcher.root) not in launcher.output_file("Gate").read_text()
