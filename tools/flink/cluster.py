"""A standalone Flink cluster of real processes on loopback: a job manager, task managers, Python workers for Beam."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from core.errors import ConfigError, UnavailableError
from core.files import write_text_atomically
from pipeline.flink import check_cluster
from schemas.engine import BeamOptions

PIDS_FILE = "pids.json"
HOST = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 15
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"
# What Flink's own start scripts open of Java 17's modules.
_OPENED = ("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util", "util.concurrent")
OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED]
# The start scripts derive a task manager's budget from one number; without them each part has to be said.
MEMORY = {
    "taskmanager.cpu.cores": 1.0,
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.max": "192m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.task.off-heap.size": "64m",
}
JOB_MANAGER_JVM = ["-Xmx384m", "-XX:MaxMetaspaceSize=256m"]
# Framework and task heap; framework, task and network memory off the heap.
TASK_MANAGER_JVM = ["-Xmx512m", "-XX:MaxDirectMemorySize=192m", "-XX:MaxMetaspaceSize=256m"]


@dataclass(frozen=True)
class Cluster:
    """A cluster in a folder, which holds its settings, its logs and the ids of its processes.

    Attributes:
        folder: Of this cluster alone.
        rest_port: Of the job manager's REST endpoint.
        pool_port: Of the Python worker pool.
        num_task_managers: With one slot each.
    """

    folder: Path
    rest_port: int = 8081
    pool_port: int = 50000
    num_task_managers: int = 2

    @property
    def options(self) -> BeamOptions:
        """Return what the config says as `beam:` to use this cluster."""
        return BeamOptions(
            runner="flink",
            num_workers=self.num_task_managers,
            flink_master=f"{HOST}:{self.rest_port}",
            environment="EXTERNAL",
            environment_config=f"{HOST}:{self.pool_port}",
        )

    def start(self, jars: Path) -> None:
        """Start all processes and wait until every task manager has reported.

        Args:
            jars: Folder of Flink's jars.

        Raises:
            ConfigError: there is no Java, or the cluster runs already.
            UnavailableError: it did not come up.
        """
        if self.processes():
            raise ConfigError(f"A cluster of {str(self.folder)!r} runs already. Stop it first, or use it as it is.")
        if shutil.which("java") is None:
            raise ConfigError("Flink cannot start. Expected java on the PATH; received none. Install Java 17.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_settings()
        java = ["java", "-cp", f"{jars}/*", f"-Dlog4j.configurationFile={self.folder / 'log4j.properties'}", *OPENS]
        settings = ["--configDir", str(self.folder)]
        self._start("job-manager", [*java, *JOB_MANAGER_JVM, JOB_MANAGER, *settings])
        for number in range(self.num_task_managers):
            self._start(f"task-manager-{number}", [*java, *TASK_MANAGER_JVM, TASK_MANAGER, *settings])
        self._start("worker-pool", worker_pool_command(self.pool_port))
        self._wait()

    def stop(self) -> int:
        """End the processes, workers of Python included, and return how many there were."""
        processes = [each for parent in self.processes() for each in (parent, *parent.children(recursive=True))]
        for process in processes:
            _send(process, signal.SIGTERM)
        for process in psutil.wait_procs(processes, timeout=STOP_SECONDS)[1]:
            _send(process, signal.SIGKILL)
        (self.folder / PIDS_FILE).unlink(missing_ok=True)
        return len(processes)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return check_cluster(self.options)
            except (ConfigError, UnavailableError) as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise UnavailableError(
                        f"Flink did not start in {START_SECONDS} s. {error} Its logs are in {str(self.folder)!r}."
                    ) from error
            time.sleep(0.5)

    def _start(self, name: str, command: Sequence[str]) -> None:
        log = str(self.folder / f"{name}.log")
        # Not by subprocess, whose objects complain when they go before the process does, as it should here.
        redirected = [
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawnp(command[0], list(command), worker_environment(), file_actions=redirected, setsid=True)
        pids = {**self._pids(), name: (pid, psutil.Process(pid).create_time())}
        write_text_atomically(self.folder / PIDS_FILE, json.dumps(pids))

    def _pids(self) -> dict[str, tuple[int, float]]:
        file = self.folder / PIDS_FILE
        return json.loads(file.read_text()) if file.is_file() else {}

    def processes(self) -> list[psutil.Process]:
        """Return those that still run; a number may have gone to another process meanwhile."""
        found = []
        for pid, created in self._pids().values():
            try:
                process = psutil.Process(pid)
                if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def _write_settings(self) -> None:
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": 1,
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.rest_port,
            "io.tmp.dirs": str(self.folder),
            **MEMORY,
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))
        (self.folder / "log4j.properties").write_text(
            "rootLogger.level = INFO\n"
            "rootLogger.appenderRef.out.ref = Out\n"
            "appender.out.name = Out\n"
            "appender.out.type = CONSOLE\n"
            "appender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = %d %-5p %c{1} %m%n\n"
        )


def worker_pool_command(port: int) -> list[str]:
    """Return the command of a pool that starts a Python worker, a process of its own, whenever Beam asks for one."""
    return [sys.executable, "-m", WORKER_POOL, f"--service_port={port}"]


def worker_environment() -> dict[str, str]:
    """Return the environment of that command: a pool starts workers by the name `python`, and they need our code."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**os.environ, "PATH": path, "PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "2"}


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
