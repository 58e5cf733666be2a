import json

import pytest
from click.testing import CliRunner

from cli.main import perennial
from core.errors import ConfigError, NodeError

PARAMETERS = {"run_id": {"parameterType": "STRING"}, "count": {"parameterType": "NUMBER_INTEGER"}}
TASKS = {
    "show": {
        "command": ["echo", "{{$.inputs.parameters['count']}}"],
        "parameters": {"count": "param:count"},
    },
    "last": {"after": ["show"]},
}


@pytest.fixture
def run_local(tmp_path, make_package):
    """Run the command on a package of the given tasks, in a folder of the test; its exceptions come through."""

    def run(*arguments, tasks=TASKS, parameters=PARAMETERS):
        path = tmp_path / "package.yaml"
        path.write_text(make_package(tasks, parameters=parameters))
        command = ["kubeflow", "run-local", str(path), "--root", str(tmp_path / "run"), *arguments]
        return CliRunner().invoke(perennial, command, catch_exceptions=False)

    return run


def test_values_come_from_the_command_line_and_from_a_file(run_local, tmp_path):
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"run_id": "from-file", "count": 1}))
    done = run_local("--param-file", str(values), "--param", "count=42")
    assert done.exit_code == 0
    assert "succeeded: from-file, every task in a folder below" in done.stdout
    assert "succeeded  show" in done.stderr
    assert (tmp_path / "run/tasks/show/log").read_text().splitlines()[1:] == ["42"]


def test_json_says_how_each_task_ended(run_local):
    done = run_local("--param", "run_id=a", "--param", "count=1", "--skip", "last", "--json")
    run = json.loads(done.stdout)
    assert run["state"] == "succeeded"
    assert {task["node_id"]: task["state"] for task in run["tasks"]} == {"show": "succeeded", "last": "skipped"}
    assert run["parameters"] == {"run_id": "a", "count": 1}


def test_one_task_runs_alone(run_local):
    given = ("--param", "run_id=a", "--param", "count=1")
    run_local(*given)
    assert "last" not in run_local(*given, "--only", "show").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--param", "count"), "Parameter 'count' is malformed. Expected NAME=VALUE"),
        (("--param", "count=many"), "Expected NUMBER_INTEGER; received count='many'"),
        (("--param", "cuont=1"), r"no parameters \['cuont'\]\. .* Did you mean 'count'"),
        (("--param-file", "gone.json"), "The parameter file cannot be read: .*gone.json"),
        (("--param-file", "setup.py"), "setup.py is no JSON"),
    ],
    ids=["pair", "type", "name", "gone", "no-json"],
)
def test_bad_values_are_refused_before_anything_runs(run_local, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run_local("--param", "run_id=a", *arguments)
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_not_there_is_named(tmp_path):
    command = ["kubeflow", "run-local", str(tmp_path / "gone.yaml")]
    with pytest.raises(ConfigError, match=r"The package cannot be read: .*gone\.yaml"):
        CliRunner().invoke(perennial, command, catch_exceptions=False)


def test_a_failure_comes_through(run_local):
    with pytest.raises(NodeError, match="Task 'bad' failed: exit code 1"):
        run_local(tasks={"bad": {"command": ["false"]}}, parameters={})
