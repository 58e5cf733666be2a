import json
import subprocess
import threading

import psutil
import pytest

from core.errors import ConfigError, LeaseHeldError, NodeError, StoppedError
from pipeline.kubeflow.local_folder import RunFolder
from pipeline.kubeflow.local_run import LocalOptions, go_on, prepare_run, run_package
from pipeline.kubeflow.package_spec import read_package

# Writes a file into the output `made`, and metadata and a word about it, as TFX's entry point would.
PRODUCE = """
import json, os, sys
given = json.loads(sys.argv[1])
artifact = given["outputs"]["artifacts"]["made"]["artifacts"][0]
path = artifact["uri"].replace("minio:/", os.environ["PERENNIAL_LOCAL_ROOT"] + "/minio")
os.makedirs(path)
open(path + "/file", "w").write("hello")
said = {"artifacts": {"made": {"artifacts": [{"uri": artifact["uri"], "metadata": {"verdict": 1, "is_new": True}}]}}}
open(given["outputs"]["outputFile"], "w").write(json.dumps(said))
"""
WRITE = ["sh", "-c", 'mkdir -p "$0" && echo "$1" > "$0/file"', "{{$.outputs.artifacts['made'].path}}"]
READ = ["sh", "-c", 'cat "$0/file"', "{{$.inputs.artifacts['taken'].path}}"]
# A task that fails until somebody makes the file.
WHEN_READY = ["sh", "-c", 'test -e "$0" || { echo "E: not ready" >&2; exit 3; }']


@pytest.fixture
def run(tmp_path, make_package):
    """Run a package of the given tasks in a folder of the test; return the run and what was told of tasks."""

    def run(tasks, *, values=None, root=None, stop=None, pipeline_root="", options=None, on_task=None, **package):
        told = []

        def tell(task):
            told.append((task.node_id, task.state))
            if on_task:
                on_task(task)

        made = run_package(
            make_package(tasks, **package),
            parameters=values or {},
            root=root or tmp_path / "run",
            run_name="run-1",
            pipeline_root=pipeline_root,
            options=LocalOptions(**(options or {})),
            on_task=tell,
            stop=stop,
        )
        return made, told

    return run


@pytest.fixture
def log(tmp_path):
    """Return the log of a task without our own words."""

    def log(task):
        lines = (tmp_path / "run" / "tasks" / task / "log").read_text().splitlines()
        return [line for line in lines if not line.startswith("[run-local]")]

    return log


def states(made):
    return {task.node_id: task.state for task in made.tasks}


def test_tasks_run_in_order_and_hand_on_their_files_through_the_store(run, log, tmp_path):
    tasks = {
        "write": {"command": WRITE, "args": ["hello"], "outputs": ["made"]},
        "read": {"command": READ, "inputs": {"taken": "write.made"}},
    }
    made, told = run(tasks)
    assert made.state == "succeeded"
    assert told == [("write", "running"), ("write", "succeeded"), ("read", "running"), ("read", "succeeded")]
    assert log("read") == ["hello"]
    (stored,) = (tmp_path / "run/store/minio/mlpipeline/v2/artifacts/tiny/run-1/write").glob("*/made/file")
    assert stored.read_text() == "hello\n"


def test_a_task_that_opens_the_uri_itself_fails_as_on_a_cluster(run):
    forgetful = ["sh", "-c", 'cat "$0/file"', "{{$.inputs.artifacts['taken'].uri}}"]
    tasks = {
        "write": {"command": WRITE, "args": ["hello"], "outputs": ["made"]},
        "read": {"command": forgetful, "inputs": {"taken": "write.made"}},
    }
    with pytest.raises(NodeError, match=r"(?s)Task 'read' failed: exit code 1.*minio://.*No such file"):
        run(tasks)


def test_a_task_sees_only_the_artifacts_that_it_takes(run):
    tasks = {
        "write": {"command": WRITE, "args": ["hello"], "outputs": ["made"]},
        "spy": {"command": ["sh", "-c", 'test -z "$(find "$PERENNIAL_LOCAL_ROOT" -type f)"'], "after": ["write"]},
    }
    assert run(tasks)[0].state == "succeeded"


def test_an_output_that_a_task_puts_elsewhere_fails_as_on_a_cluster(run):
    elsewhere = PRODUCE.replace('"uri": artifact["uri"]', '"uri": "minio://other/made"')
    with pytest.raises(NodeError, match=r"output lies at 'minio://other/made'\. Expected something below the pipeline"):
        run({"write": {"python": elsewhere, "args": ["{{$}}"], "outputs": ["made"]}})


def test_metadata_without_a_value_fails_as_on_a_cluster(run):
    with pytest.raises(NodeError, match="gave metadata 'verdict' no value"):
        run(
            {
                "write": {
                    "python": PRODUCE.replace('"verdict": 1', '"verdict": None'),
                    "args": ["{{$}}"],
                    "outputs": ["made"],
                }
            }
        )


def test_what_a_task_says_must_be_an_executor_output(run):
    python = "import json, sys; open(json.loads(sys.argv[1])['outputs']['outputFile'], 'w').write('{\"nothing\": 1}')"
    with pytest.raises(NodeError, match=r"is no ExecutorOutput: .*nothing"):
        run({"write": {"python": python, "args": ["{{$}}"]}})


def test_a_folder_as_pipeline_root_needs_no_copies(run, log, tmp_path):
    tasks = {
        "write": {"command": WRITE, "args": ["hello"], "outputs": ["made"]},
        "read": {"command": READ, "inputs": {"taken": "write.made"}},
    }
    run(tasks, pipeline_root=str(tmp_path / "artifacts"))
    assert log("read") == ["hello"]
    assert len(list((tmp_path / "artifacts/tiny/run-1/write").glob("*/made/file"))) == 1
    assert not (tmp_path / "run/store").exists()


def test_metadata_comes_back_as_kfp_keeps_it(run, log):
    show = (
        "import json, sys; print(json.dumps(json.loads(sys.argv[1])['inputs']['artifacts']['taken']['artifacts'][0]))"
    )
    tasks = {
        "write": {"python": PRODUCE, "args": ["{{$}}"], "outputs": ["made"]},
        "read": {"python": show, "args": ["{{$}}"], "inputs": {"taken": "write.made"}},
    }
    run(tasks)
    (line,) = log("read")
    artifact = json.loads(line)
    metadata = artifact["metadata"]
    assert artifact["name"] == "1"
    assert artifact["type"] == {"instanceSchema": ""}
    assert metadata["verdict"] == 1
    assert metadata["is_new"] == 1
    assert metadata["display_name"] == "made"
    assert json.loads(metadata["store_session_info"])["Provider"] == "minio"


@pytest.mark.parametrize(("limit", "state"), [(2, "succeeded"), (1, "skipped")])
def test_a_condition_decides_on_its_task_and_on_what_needs_it(run, limit, state):
    condition = f"inputs.artifacts['taken'].artifacts[0].metadata['verdict'] < {limit}.0"
    tasks = {
        "write": {"python": PRODUCE, "args": ["{{$}}"], "outputs": ["made"]},
        "guarded": {"inputs": {"taken": "write.made"}, "condition": condition},
        "behind": {"after": ["guarded"]},
        "further": {"after": ["behind"]},
        "beside": {"after": ["write"]},
    }
    made, _ = run(tasks)
    assert made.state == "succeeded"
    assert states(made) == {
        "write": "succeeded", "guarded": state, "behind": state, "further": state, "beside": "succeeded"
    }  # fmt: skip


def test_a_condition_that_cannot_be_evaluated_fails_its_task(run):
    condition = "inputs.artifacts['taken'].artifacts[0].metadata['verdikt'] < 2.0"
    tasks = {
        "write": {"python": PRODUCE, "args": ["{{$}}"], "outputs": ["made"]},
        "guarded": {"inputs": {"taken": "write.made"}, "condition": condition},
    }
    with pytest.raises(NodeError, match=r"'guarded' failed: Condition .* cannot be evaluated: .*\"verdikt\""):
        run(tasks)


def test_parameters_travel_between_tasks_as_their_type(run, log):
    tasks = {
        "count": {
            "command": ["sh", "-c", 'echo 41 > "$0"', "{{$.outputs.parameters['number'].output_file}}"],
            "output_parameters": {"number": "NUMBER_INTEGER"},
        },
        "show": {
            "command": ["echo", "{{$.inputs.parameters['number']}}"],
            "from_outputs": {"number": "count.number"},
            "types": {"number": {"parameterType": "NUMBER_INTEGER"}},
        },
    }
    run(tasks)
    assert log("show") == ["41"]


def test_an_output_parameter_that_is_not_written_fails_its_task(run):
    with pytest.raises(NodeError, match="did not write its output parameter 'number'"):
        run({"count": {"output_parameters": {"number": "NUMBER_INTEGER"}}})


def test_defaults_and_facts_of_the_run_fill_parameters(run, log):
    show = "import json, sys; print(sorted(json.loads(sys.argv[1])['inputs']['parameterValues'].items()))"
    tasks = {
        "show": {
            "python": show,
            "args": ["{{$}}"],
            "parameters": {"name": "{{$.pipeline_job_name}}"},
            "types": {"more": {"parameterType": "STRING", "defaultValue": "by default"}},
        }
    }
    run(tasks)
    assert log("show") == ["[('more', 'by default'), ('name', 'run-1')]"]


def test_a_command_that_names_a_mere_default_fails_as_in_kfp(run):
    task = {
        "command": ["echo", "{{$.inputs.parameters['more']}}"],
        "types": {"more": {"parameterType": "STRING", "defaultValue": "by default"}},
    }
    with pytest.raises(NodeError, match=r"names parameters that the task does not take: \['more'\]"):
        run({"show": task})


def test_every_task_has_the_launchers_output_for_its_log(run, log):
    show = "import json, sys; print(json.loads(sys.argv[1])['outputs']['artifacts'])"
    run({"show": {"python": show, "args": ["{{$}}"]}})
    assert "'executor-logs'" in log("show")[0]
    assert "'schemaTitle': 'system.Artifact'" in log("show")[0]


@pytest.mark.parametrize("text", ["it's", 'say "x"', "größer → 好", "a\nb", "$(date) `date` \\n", "{{not one}}"])
def test_values_reach_the_process_unchanged(run, log, text):
    tasks = {"show": {"python": "import sys; print(repr(sys.argv[1]))", "args": ["{{$.inputs.parameters['text']}}"]}}
    tasks["show"]["parameters"] = {"text": "param:text"}
    run(tasks, parameters={"text": {"parameterType": "STRING"}}, values={"text": text})
    assert log("show") == [repr(text)]


def test_the_command_can_be_repeated_by_hand(run, tmp_path):
    tasks = {
        "show": {
            "command": ["sh", "-c", 'echo "$WORD" "$0"', "{{$.inputs.parameters['text']}}"],
            "parameters": {"text": "it's"},
            "env": {"WORD": "a 'b' c"},
        }
    }
    run(tasks)
    script = tmp_path / "run/tasks/show/command.sh"
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "a 'b' c it's\n"


def test_a_task_has_the_containers_environment_and_secrets_by_name_only(run, log, monkeypatch, tmp_path):
    monkeypatch.setenv("LEDGER_URL", "secret")
    monkeypatch.setenv("SOMETHING_ELSE", "ours")
    secret = {"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "LEDGER_URL"}]}
    platform = {
        "platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-show": {"secretAsEnv": [secret]}}}}}
    }
    command = ["sh", "-c", 'echo "$MODE" "$LEDGER_URL" "$SOMETHING_ELSE"']
    run({"show": {"command": command, "env": {"MODE": "test"}}}, platform=platform)
    assert log("show") == ["test secret "]
    assert "secret" not in (tmp_path / "run/tasks/show/command.sh").read_text()


def test_kubernetes_variables_are_expanded_as_in_a_pod(run, log):
    task = {
        "command": ["echo", "$(URL) costs $$5", "$(PATH)", "{{$.inputs.parameters['text']}}"],
        "env": {"HOST": "db", "URL": "http://$(HOST)/"},
        "parameters": {"text": "^a$$"},
    }
    run({"show": task})
    assert log("show") == ["http://db/ costs $5 $(PATH) ^a$"]


def test_importers_name_what_lies_there(run, log, tmp_path):
    stored = tmp_path / "run/store/minio/mlpipeline/old/model"
    stored.mkdir(parents=True)
    (stored / "file").write_text("weights")
    tasks = {
        "model-importer": {"uri": "param:model_uri"},
        "read": {"command": READ, "inputs": {"taken": "model-importer.result"}},
    }
    uri = "minio://mlpipeline/old/model"
    run(tasks, parameters={"model_uri": {"parameterType": "STRING"}}, values={"model_uri": uri})
    assert log("read") == ["weights"]


def test_an_importer_of_nothing_is_told_in_the_log_of_who_reads_it(run, tmp_path):
    tasks = {
        "model-importer": {"uri": "minio://mlpipeline/gone"},
        "read": {"command": READ, "inputs": {"taken": "model-importer.result"}},
    }
    with pytest.raises(NodeError, match="Task 'read' failed"):
        run(tasks)
    log = (tmp_path / "run/tasks/read/log").read_text()
    assert "[run-local] nothing lies at minio://mlpipeline/gone (looked in " in log


def test_tasks_run_side_by_side_where_the_dag_allows(run, tmp_path):
    # Each waits for the other: only both at a time can end.
    def meet(own, other):
        return ["sh", "-c", f'touch "$0/{own}"; until test -e "$0/{other}"; do sleep 0.01; done', str(tmp_path)]

    tasks = {"one": {"command": meet("a", "b")}, "other": {"command": meet("b", "a")}}
    assert run(tasks)[0].state == "succeeded"


def test_one_at_a_time_is_one_at_a_time(run):
    _, told = run({"a": {}, "b": {}, "c": {}}, options={"max_parallel": 1})
    assert [state for _, state in told] == ["running", "succeeded"] * 3


def test_a_failed_task_is_tried_again_as_often_as_the_package_says(run, log, tmp_path):
    # It fails twice, and the third time finds two marks.
    count = ["sh", "-c", 'echo x >> "$0"; test "$(wc -l < "$0")" -ge 3', str(tmp_path / "marks")]
    made, _ = run({"flaky": {"command": count, "retries": 2}})
    assert made.state == "succeeded"
    assert made.tasks[0].error is None
    assert RunFolder(tmp_path / "run").task(read_task(tmp_path, "flaky")).attempts == 3


def read_task(tmp_path, name):
    return read_package((tmp_path / "run/package.yaml").read_text()).task_named(name)


def test_a_failure_of_the_launcher_is_tried_again_too(run, tmp_path):
    with pytest.raises(NodeError, match="did not write its output parameter"):
        run({"count": {"output_parameters": {"number": "NUMBER_INTEGER"}, "retries": 1}})
    assert RunFolder(tmp_path / "run").task(read_task(tmp_path, "count")).attempts == 2


def test_without_a_bound_on_all_attempts_argo_never_tries_again(run, tmp_path):
    with pytest.raises(NodeError, match="'flaky' failed: exit code 1"):
        run({"flaky": {"command": ["false"], "retries": 2, "max_duration": None}})
    assert RunFolder(tmp_path / "run").task(read_task(tmp_path, "flaky")).attempts == 1


def test_an_importer_of_a_folder_fails_where_artifacts_lie_in_a_store(run, tmp_path):
    with pytest.raises(NodeError, match="Expected a URI in an object store"):
        run({"model-importer": {"uri": str(tmp_path)}})
    made, _ = run({"model-importer": {"uri": str(tmp_path)}}, pipeline_root=str(tmp_path), root=tmp_path / "other")
    assert made.state == "succeeded"


@pytest.mark.parametrize("is_remote", [True, False], ids=["store", "folder"])
def test_every_attempt_finds_an_empty_place_for_its_outputs(run, tmp_path, is_remote):
    once = ["sh", "-c", 'mkdir "$0" && { test -e "$1" || { touch "$1"; exit 1; }; }', WRITE[3], str(tmp_path / "mark")]
    pipeline_root = "" if is_remote else str(tmp_path / "artifacts")
    made, _ = run({"make": {"command": once, "outputs": ["made"], "retries": 1}}, pipeline_root=pipeline_root)
    assert made.state == "succeeded"


def test_a_failure_says_where_how_and_what_next(run, tmp_path):
    noisy = "\n".join(["2026-11-21 18:00:00.123456: I tensorflow/core: built", "INFO:absl:x", "E: the reason"])
    tasks = {
        "first": {},
        "bad": {"command": ["sh", "-c", 'echo "$0"; exit 3', noisy], "after": ["first"]},
        "behind": {"after": ["bad"]},
    }
    with pytest.raises(NodeError) as failure:
        run(tasks)
    root = tmp_path / "run"
    assert str(failure.value) == (
        f"Task 'bad' failed: exit code 3. Its log, {root}/tasks/bad/log, ends with:\n  E: the reason\n"
        f"Run it again alone with --only bad --root {root}, or by hand with {root}/tasks/bad/command.sh; then "
        f"the same command with --root {root} goes on there."
    )
    view = RunFolder(root).view(read_package((root / "package.yaml").read_text()))
    assert view.state == "failed"
    assert view.error == str(failure.value)
    assert states(view) == {"first": "succeeded", "bad": "failed"}


def test_a_signal_is_named(run):
    with pytest.raises(NodeError, match="'bad' failed: killed by SIGKILL"):
        run({"bad": {"command": ["sh", "-c", "kill -9 $$$$"]}})


def test_a_program_that_is_not_there_is_named(run):
    with pytest.raises(NodeError, match=r"'bad' failed: .*No such file or directory: 'no-such-program'"):
        run({"bad": {"command": ["no-such-program"]}})


def test_a_second_call_goes_on_with_what_did_not_succeed(run, tmp_path):
    ready = tmp_path / "ready"
    tasks = {
        "first": {},
        "late": {"command": [*WHEN_READY, str(ready)], "after": ["first"]},
        "last": {"after": ["late"]},
    }
    with pytest.raises(NodeError, match="E: not ready"):
        run(tasks)
    ready.touch()
    made, told = run(tasks)
    assert made.state == "succeeded"
    assert [name for name, state in told if state == "running"] == ["late", "last"]
    assert run(tasks)[1] == []


def test_one_task_alone_uses_what_lies_there(run, tmp_path, log):
    tasks = {
        "write": {"command": WRITE, "args": ["hello"], "outputs": ["made"]},
        "read": {"command": READ, "inputs": {"taken": "write.made"}},
        "last": {"after": ["read"]},
    }
    with pytest.raises(ConfigError, match=r"'read' cannot run alone: .* have not succeeded: \['write'\]"):
        run(tasks, options={"only": "read"})
    run(tasks)
    _, told = run(tasks, options={"only": "read"})
    assert told == [("read", "running"), ("read", "succeeded")]
    assert log("read") == ["hello"]


def test_a_skipped_task_takes_along_what_needs_it(run):
    tasks = {"a": {}, "b": {"after": ["a"]}, "c": {"after": ["b"]}}
    made, _ = run(tasks, options={"skip": ("b",)})
    assert states(made) == {"a": "succeeded", "b": "skipped", "c": "skipped"}
    assert states(run(tasks)[0]) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}


def test_stopping_ends_the_processes_and_says_how_to_go_on(run, tmp_path):
    stop = threading.Event()
    mark = tmp_path / "pid"
    # It starts a child of its own and says who that is.
    command = ["sh", "-c", 'sleep 600 & echo $! > "$0.tmp"; mv "$0.tmp" "$0"; wait', str(mark)]
    tasks = {"first": {}, "long": {"command": command, "after": ["first"]}}

    def stop_once_it_runs(task):
        if (task.node_id, task.state) == ("long", "running"):
            threading.Thread(target=_stop_when, args=(mark, stop)).start()

    with pytest.raises(
        StoppedError, match=rf"What succeeded stays: the same command with --root {tmp_path}/run goes on"
    ):
        run(tasks, stop=stop, on_task=stop_once_it_runs)
    assert not psutil.pid_exists(int(mark.read_text())) or is_zombie(int(mark.read_text()))
    view = RunFolder(tmp_path / "run").view(read_package((tmp_path / "run/package.yaml").read_text()))
    assert view.state == "cancelled"
    assert states(view)["long"] == "pending"


def is_zombie(pid):
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def _stop_when(mark, stop):
    while not mark.exists():
        stop.wait(0.01)
    stop.set()


def test_what_a_killed_call_left_running_is_ended_first(make_package, tmp_path):
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    folder = prepare_run(make_package({"long": {}}), parameters={}, root=tmp_path / "run", run_name="run-1")
    task = read_package(folder.package_path.read_text()).task_named("long")
    created = psutil.Process(orphan.pid).create_time()
    running = folder.task(task).model_copy(update={"state": "running", "process": (orphan.pid, created)})
    folder.write_task(task, running)
    assert go_on(folder).state == "succeeded"
    orphan.wait()
    assert not psutil.pid_exists(orphan.pid)


def test_a_run_whose_process_was_killed_has_failed(make_package, tmp_path):
    text = make_package({"long": {}})
    folder = prepare_run(text, parameters={}, root=tmp_path / "run", run_name="run-1")
    folder.write(folder.record().model_copy(update={"state": "running"}))
    assert folder.view(read_package(text)).state == "failed"
    with folder.held():
        assert folder.view(read_package(text)).state == "running"


def test_a_run_is_run_by_one_at_a_time(run, tmp_path):
    with RunFolder(tmp_path / "run").held(), pytest.raises(LeaseHeldError, match="goes on in another process"):
        run({"a": {}})


def test_a_folder_belongs_to_one_run(run):
    parameters = {"text": {"parameterType": "STRING"}}
    run({"a": {}}, parameters=parameters, values={"text": "x"})
    with pytest.raises(ConfigError, match=r"belongs to a run that differs in parameter 'text'\. .*another --root"):
        run({"a": {}}, parameters=parameters, values={"text": "y"})
    with pytest.raises(ConfigError, match="differs in the package"):
        run({"b": {}}, parameters=parameters, values={"text": "x"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"wants values that were not given: \['number', 'text'\]\. Give each with --param"),
        ({"text": "x", "nmber": 1}, r"has no parameters \['nmber'\]\..* Did you mean 'number'\?"),
        ({"text": 1, "number": 1}, "Parameter 'text' has a value of another type. Expected STRING; received text=1"),
        ({"text": "x", "number": 1.5}, "Expected NUMBER_INTEGER; received number=1.5"),
        ({"text": "x", "number": True}, "Expected NUMBER_INTEGER; received number=True"),
    ],
    ids=["missing", "unknown", "text", "fraction", "boolean"],
)
def test_bad_parameters_are_refused_before_anything_runs(run, tmp_path, values, message):
    parameters = {"text": {"parameterType": "STRING"}, "number": {"parameterType": "NUMBER_INTEGER"}}
    with pytest.raises(ConfigError, match=message):
        run({"a": {}}, parameters=parameters, values=values)
    assert not (tmp_path / "run").exists()


def test_an_unknown_task_is_refused_with_the_nearest_name(run):
    with pytest.raises(ConfigError, match=r"has no task 'Trainr'\. Expected one of \['Trainer'\]\. Did you mean"):
        run({"Trainer": {}}, options={"skip": ("Trainr",)})


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": {"after": ["b_task"]}}, r"Task 'a' waits for tasks that are not there: \['b_task'\]"),
        ({"a": {"after": ["b"]}, "b": {"after": ["a"]}}, r"wait for one another: \['a', 'b'\]"),
        ({"a": {"uri": "minio://x/y", "condition": "true"}}, "is an importer with a condition"),
        ({"a": {"extra": {"triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}}}, "is an exit handler"),
        ({"a": {"extra": {"parameterIterator": {"itemInput": "x"}}}}, "is a loop"),
        ({"a": {"extra": {"componentRef": {"name": "other"}}}}, "names a component 'other' that is not there"),
        ({"a": {"args": ['{"IfPresent": {"InputName": "x"}}']}}, "has a computed argument"),
        ({}, "has no task"),
    ],
    ids=["unknown", "circle", "importer", "exit", "loop", "component", "argument", "empty"],
)
def test_what_cannot_be_run_here_is_refused(run, tasks, message):
    with pytest.raises(ConfigError, match=message):
        run(tasks)


def test_another_schema_version_is_refused(run):
    with pytest.raises(ConfigError, match=r"schema version '2\.0\.0'\. Expected '2\.1\.0'\. Compile it again"):
        run({"a": {}}, schema_version="2.0.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("a: [", "is no YAML"), ("pipelineSpec: {}", "is no pipeline spec"), ("- a", "no mapping")],
)
def test_what_is_no_package_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_package(text)
