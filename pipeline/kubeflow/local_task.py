"""One task of a package in a process of its own, between a driver and a launcher that do what KFP's do."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from core.clock import Clock
from core.errors import PipelineError
from core.files import write_text_atomically
from pipeline.kubeflow.conditions import condition_holds
from pipeline.kubeflow.executor_input import (
    RunFacts,
    TaskOutputs,
    fill_defaults,
    imported_outputs,
    merged_outputs,
    provision_outputs,
    read_executor_output,
    resolved_inputs,
)
from pipeline.kubeflow.local_folder import RunFolder, TaskRecord
from pipeline.kubeflow.local_store import LocalStore, launcher_path
from pipeline.kubeflow.package_spec import TaskSpec
from pipeline.kubeflow.placeholders import check_parameters_wired, executor_input_text, expanded, filled_command
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE, is_remote

# What a process needs to run at all; nothing else of our environment is in a container either.
_PASSED_ON = re.compile(
    r"^(PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON.*|CUDA_.*|NVIDIA_.*)$"
)
_PYTHON = re.compile(r"^python[0-9.]*$")
# What TensorFlow's C++, absl and Beam write below the level of an error, and our own words.
_NOISE = re.compile(
    r"^(\[run-local\] |[IW]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] |(DEBUG|INFO|WARNING):"
    r"|WARNING: All log messages)"
)
# How long a task that is asked to end may take; Kubernetes gives a pod 30 seconds.
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class TaskRunner:
    """Runs tasks of one run; each method may be called from several threads for different tasks.

    Attributes:
        folder: The run's folder.
        facts: What tasks may ask about the run.
        store: The object store.
        first_ids: Number of each task's first artifact, by task name.
        stop: Set to end the processes of all tasks.
        clock: Where the time comes from.
    """

    folder: RunFolder
    facts: RunFacts
    store: LocalStore
    first_ids: Mapping[str, int]
    stop: threading.Event
    clock: Clock

    def run(self, task: TaskSpec, outputs: Mapping[str, TaskOutputs]) -> TaskRecord:
        """Run a task to its end, or to its last attempt, and keep what came of it.

        Args:
            task: The task.
            outputs: What the tasks before it gave, by name.
        """
        begun = self.folder.task(task)
        end_orphan(begun)
        record = TaskRecord(state="running", attempts=begun.attempts, started_at=self.clock.now())
        self.folder.write_task(task, record)
        try:
            record = self._driven(task, outputs, record)
        except (PipelineError, OSError) as error:
            record = record.model_copy(update={"state": "failed", "error": str(error)})
        self.folder.write_task(task, record)
        return record

    def _driven(self, task: TaskSpec, outputs: Mapping[str, TaskOutputs], record: TaskRecord) -> TaskRecord:
        """Do the driver's part: the inputs, the condition, where the outputs go; then let the launcher do its own."""
        first_id = self.first_ids[task.name]
        if task.is_importer:
            return record.model_copy(
                update={"state": "succeeded", "outputs": imported_outputs(task, self.facts, first_id)}
            )
        executor_input = resolved_inputs(task, self.facts, outputs)
        if not condition_holds(task.task.trigger_policy.condition, executor_input):
            return record.model_copy(update={"state": "skipped"})
        check_parameters_wired([*task.executor.container.command, *task.executor.container.args], executor_input)
        self._provision(task, executor_input)
        fill_defaults(executor_input, task)
        write_text_atomically(self.folder.task_path(task) / "executor_input.json", executor_input_text(executor_input))
        return self._attempts(task, executor_input, record)

    def _provision(self, task: TaskSpec, executor_input: Any) -> None:
        """Choose where the outputs go: as in KFP, a task that is tried again finds the same place."""
        name = self.facts.name
        folder, root = self.folder.task_path(task), self.facts.pipeline_root.rstrip("/")
        task_root = (
            f"{root}/{self.facts.pipeline}/{name}/{task.name}/{uuid.uuid5(uuid.NAMESPACE_URL, name + task.name)}"
        )
        beside = launcher_path(task_root, folder / "local") if is_remote(root) else folder
        output_file = beside / "output_metadata.json"
        provision_outputs(executor_input, task, task_root=task_root, output_file=output_file, folder=folder / "outputs")

    def _attempts(self, task: TaskSpec, executor_input: Any, record: TaskRecord) -> TaskRecord:
        """Try as often as the package says, without its waits: they are for what may pass in a cluster."""
        policy = task.task.retry_policy
        # Argo takes a missing bound on all attempts together for one of zero seconds.
        num_attempts = 1 + (policy.max_retry_count if policy.backoff_max_duration.seconds else 0)
        with open(self.folder.log_path(task), "wb") as log:
            for attempt in range(1, num_attempts + 1):
                _say(log, f"attempt {attempt} of {num_attempts}")
                anew = {"state": "running", "attempts": record.attempts + 1, "exit_code": None, "error": None}
                record = self._attempt(task, executor_input, record.model_copy(update=anew), log)
                if record.state != "failed":
                    break
                _say(log, str(record.error))
        return record

    def _attempt(self, task: TaskSpec, executor_input: Any, record: TaskRecord, log: IO[bytes]) -> TaskRecord:
        """Launch a task once and collect what it made; the launcher's own failures are the task's."""
        code = None
        try:
            code = self._launch(task, executor_input, record, log)
            if self.stop.is_set():
                return record.model_copy(update={"state": "pending"})
            if code == 0:
                outputs = self._collected(task, executor_input, log)
                return record.model_copy(update={"state": "succeeded", "exit_code": 0, "outputs": outputs})
            error = _how_it_ended(code)
        except (PipelineError, OSError) as failure:
            error = str(failure)
        return record.model_copy(update={"state": "failed", "exit_code": code, "error": error})

    def _launch(self, task: TaskSpec, executor_input: Any, record: TaskRecord, log: IO[bytes]) -> int:
        """Do the launcher's part up to the end of the process, on a file system as empty as a new pod's."""
        local_root = self.folder.task_path(task) / "local"
        shutil.rmtree(local_root, ignore_errors=True)
        output_file = Path(executor_input.outputs.output_file)
        output_file.unlink(missing_ok=True)
        output_file.parent.mkdir(parents=True, exist_ok=True)
        self._download(executor_input, local_root, log)
        _make_output_folders(executor_input, local_root)
        own, passed_on = _variables(task)
        own[LOCAL_ROOT_VARIABLE] = str(local_root)
        environment = {name: os.environ[name] for name in passed_on} | own
        known = {name: environment[name] for name in environment if name in own or name in task.cluster_variables}
        container = task.executor.container
        command = filled_command([*container.command, *container.args], executor_input, local_root)
        command = _with_our_python([expanded(word, known) for word in command])
        _write_command(self.folder.task_path(task) / "command.sh", command, own, passed_on)
        return self._wait(task, _start(command, environment, log), record)

    def _wait(self, task: TaskSpec, process: "subprocess.Popen[bytes]", record: TaskRecord) -> int:
        created = psutil.Process(process.pid).create_time()
        self.folder.write_task(task, record.model_copy(update={"process": (process.pid, created)}))
        while process.poll() is None:
            if self.stop.wait(_POLL_SECONDS):
                _end(process)
        return process.wait()

    def _download(self, executor_input: Any, local_root: Path, log: IO[bytes]) -> None:
        for several in executor_input.inputs.artifacts.values():
            for artifact in several.artifacts:
                path = launcher_path(artifact.uri, local_root)
                is_there = self.store.download(artifact.uri, path) if is_remote(artifact.uri) else path.exists()
                if not is_there:
                    _say(log, f"nothing lies at {artifact.uri} (looked in {self._place(artifact.uri)})")

    def _collected(self, task: TaskSpec, executor_input: Any, log: IO[bytes]) -> TaskOutputs:
        said = Path(executor_input.outputs.output_file)
        executor_output = read_executor_output(said)
        if said.is_file():
            shutil.copyfile(said, self.folder.task_path(task) / "executor_output.json")
        outputs = merged_outputs(executor_input, executor_output, task, self.first_ids[task.name])
        local_root = self.folder.task_path(task) / "local"
        for name, artifact in outputs.artifacts.items():
            if not is_remote(artifact.uri):
                if is_remote(self.facts.pipeline_root):
                    _say(log, f"output {name!r} is not uploaded: {artifact.uri} is in no object store")
                continue
            path = launcher_path(artifact.uri, local_root)
            if not self.store.upload(path, artifact.uri, pipeline_root=self.facts.pipeline_root):
                _say(log, f"output {name!r} has no file at {path}")
        return outputs

    def _place(self, uri: str) -> Path:
        return self.store.path_of(uri) if is_remote(uri) else Path(uri)


def log_tail(path: Path, num_lines: int = 15) -> list[str]:
    """Return the last lines of a task's log that say something: neither progress of libraries nor our own words."""
    lines = [line.rstrip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.match(line)]
    return (telling or lines)[-num_lines:]


def _say(log: IO[bytes], text: str) -> None:
    log.write(f"[run-local] {text}\n".encode())
    log.flush()


def _how_it_ended(exit_code: int) -> str:
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


def _with_our_python(command: Sequence[str]) -> list[str]:
    """Let the image's Python be this one."""
    program, *arguments = command
    return [sys.executable if _PYTHON.match(Path(program).name) else program, *arguments]


def _variables(task: TaskSpec) -> tuple[dict[str, str], list[str]]:
    """Return the container's own environment variables, and the names of those that it has from our environment."""
    passed_on = [name for name in os.environ if _PASSED_ON.match(name) or name in task.cluster_variables]
    known = {name: os.environ[name] for name in passed_on if name in task.cluster_variables}
    own: dict[str, str] = {}
    for one in task.executor.container.env:
        own[one.name] = expanded(one.value, known | own)
    return own, passed_on


def _make_output_folders(executor_input: Any, local_root: Path) -> None:
    for parameter in executor_input.outputs.parameters.values():
        Path(parameter.output_file).parent.mkdir(parents=True, exist_ok=True)
    for several in executor_input.outputs.artifacts.values():
        path = launcher_path(several.artifacts[0].uri, local_root)
        if not is_remote(several.artifacts[0].uri):
            # In a pod it would be empty.
            shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)


def _write_command(path: Path, command: Sequence[str], own: Mapping[str, str], passed_on: Sequence[str]) -> None:
    """Write a script that starts the task by hand; what only the environment has stays there."""
    variables = [f'{name}="${name}"' for name in passed_on if name not in own]
    variables += [f"{name}={shlex.quote(value)}" for name, value in own.items()]
    words = ["exec env -i", *variables, *map(shlex.quote, command)]
    lines = ["#!/bin/sh", f"cd {shlex.quote(os.getcwd())} || exit 1", " \\\n  ".join(words)]
    write_text_atomically(path, "\n".join(lines) + "\n")
    path.chmod(0o755)


def _start(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C is ours to answer, and a task's own children end with it.
    return subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def end_orphan(record: TaskRecord) -> None:
    """End the process of a task whose run was killed, or the next attempt would write beside it."""
    if record.state != "running" or record.process is None:
        return
    pid, created = record.process
    try:
        process = psutil.Process(pid)
        if process.create_time() != created:
            return
        orphans = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for orphan in orphans:
        try:
            orphan.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(orphans, timeout=_GRACE_SECONDS)
