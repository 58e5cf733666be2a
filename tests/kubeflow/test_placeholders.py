import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError
from pipeline.kubeflow.placeholders import check_parameters_wired, executor_input_text, filled_command


def executor_input(parameters):
    tree = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {"base": {"artifacts": [{"name": "1", "uri": "minio://b/base"}]}},
        },
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"name": "model", "uri": "gs://b/model"}]}},
            "parameters": {"count": {"outputFile": "/tmp/count"}},
        },
    }
    return json_format.ParseDict(tree, pipeline_spec_pb2.ExecutorInput())


# A value that itself holds a placeholder is replaced again, in an order that KFP leaves open.
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda text: "{{$" not in text)


@given(VALUES)
def test_a_value_is_one_argument_whatever_it_contains(value):
    template = ["run", "{{$.inputs.parameters['p']}}", "--p={{$.inputs.parameters['p']}}!"]
    assert filled_command(template, executor_input({"p": value}), Path("/")) == ["run", value, f"--p={value}!"]


@given(st.dictionaries(VALUES, st.one_of(VALUES, st.booleans(), st.integers(-1000, 1000)), max_size=4))
def test_the_whole_input_comes_back_from_its_text(parameters):
    given_input = executor_input(parameters)
    _, text = filled_command(["run", "{{$}}"], given_input, Path("/"))
    assert json_format.Parse(text, pipeline_spec_pb2.ExecutorInput()) == given_input
    assert json.loads(text)["inputs"].get("parameterValues", {}) == parameters


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{$.inputs.artifacts['base'].uri}}", "minio://b/base"),
        ("{{$.inputs.artifacts['base'].path}}", "/local/minio/b/base"),
        ("{{$.outputs.artifacts['model'].path}}/x", "/local/gcs/b/model/x"),
        ("{{$.outputs.parameters['count'].output_file}}", "/tmp/count"),
        ("{{$.inputs.parameters['nobody']}}", "{{$.inputs.parameters['nobody']}}"),
        ('{{$.inputs.parameters["p"]}}', '{{$.inputs.parameters["p"]}}'),
    ],
)
def test_each_placeholder_has_one_spelling(template, filled):
    assert filled_command(["run", template], executor_input({"p": 1}), Path("/local")) == ["run", filled]


def test_numbers_are_written_without_a_fraction_that_they_lack():
    assert filled_command(["run", "{{$.inputs.parameters['p']}}"], executor_input({"p": 7.0}), Path("/")) == [
        "run",
        "7",
    ]
    assert json.loads(executor_input_text(executor_input({"p": 7.0})))["inputs"]["parameterValues"] == {"p": 7}


def test_the_program_itself_knows_the_whole_input_only():
    program = "{{$.inputs.parameters['p']}}"
    assert filled_command([program], executor_input({"p": "x"}), Path("/")) == [program]
    whole = executor_input({"p": "x"})
    assert filled_command(["{{$}}"], whole, Path("/")) == [executor_input_text(whole)]


def test_a_parameter_that_nobody_gives_is_named():
    command = ["run", "{{$.inputs.parameters['p']}}", "{{$.inputs.parameters['q']}}"]
    with pytest.raises(ConfigError, match=r"names parameters that the task does not take: \['q'\]"):
        check_parameters_wired(command, executor_input({"p": "x"}))
    check_parameters_wired(command[:2], executor_input({"p": "x"}))
