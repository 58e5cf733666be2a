"""A real worker process, with a DAG that does what a plan's trigger says."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core.errors import (
    ConfigError,
    DataError,
    LeaseLostError,
    StoppedError,
    UnavailableError,
    WorkerDiedError,
)
from pipeline.config import load_config
from pipeline.logs import LOGGER_NAME
from pipeline.plan import RunPlan
from pipeline.worker import Worker, setup_of
from pipeline.worker_dag import WorkerDag
from schemas.spans import SpanRef

# A test waits at most so long for what another process or thread does.
PATIENCE_SECONDS = 60

DAG = """
import json, os, signal, subprocess, sys, threading, time
from core.errors import DataError, PipelineError
from pipeline.record import Outcome

class ScriptedDag:
    runner, code_digest = "local", "code"

    def __init__(self, config, runner):
        self.config = config

    def run(self, plan, observer):
        getattr(self, plan.trigger)(plan, observer)

    def outcome(self, plan, *, first_version, trained):
        if plan.trigger == "outcome_crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if plan.trigger == "outcome_failure":
            raise DataError("nothing there.")
        return Outcome.model_validate({
            "word": "scored", "reasons": (f"{os.getpid()}", f"{first_version}"),
            "drift": {"verdict": "pass", "findings": ()},
            "statistics_uri": "/s", "window_statistics_uri": "/s", "seconds": {"A": 0.1}})

    def node(self, observer, name):
        observer.node_started(name)
        with observer.fenced():
            pass
        observer.node_finished(name)

    def two_nodes(self, plan, observer):
        self.node(observer, "A")
        observer.check("B")
        self.node(observer, "B")

    def say_pid(self, plan, observer):
        self.node(observer, str(os.getpid()))

    def noise(self, plan, observer):
        print("{}")
        os.write(1, b"\\xff not utf-8\\n")
        subprocess.run([sys.executable, "-c", "print('from a grandchild')"], check=True)
        self.node(observer, "A")

    def between(self, plan, observer):
        self.node(observer, "A")
        os._exit(7)

    def in_node(self, plan, observer):
        self.node(observer, "A")
        observer.node_started("B")
        print("B says its last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def in_fence(self, plan, observer):
        observer.node_started("B")
        with observer.fenced():
            os.abort()

    def segfault(self, plan, observer):
        observer.node_started("B")
        os.kill(os.getpid(), signal.SIGSEGV)

    def fails(self, plan, observer):
        observer.node_started("B")
        raise DataError("row 3 is broken.")

    def subclass(self, plan, observer):
        class OddError(DataError):
            pass
        raise OddError("row 4 is broken.")

    def full_disk(self, plan, observer):
        raise OSError(28, "No space left on device")

    def bug(self, plan, observer):
        raise KeyError("label")

    def fails_in_fence(self, plan, observer):
        observer.node_started("B")
        with observer.fenced():
            raise DataError("not published.")

    def clears_up(self, plan, observer):
        try:
            self.two_nodes(plan, observer)
        except PipelineError as error:
            print(f"cleared up after {type(error).__name__}", flush=True)
            raise

    def together(self, plan, observer):
        def nodes(names):
            for name in names:
                observer.node_started(name)
                with observer.fenced():
                    observer.check(f"inside {name}")
                observer.node_finished(name)
        threads = [threading.Thread(target=nodes, args=([f"{n}{i}" for i in range(20)],)) for n in "abcd"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    def garbage(self, plan, observer):
        observer._line._writes.write(b"Segmentation fault\\n")
        observer._line._writes.flush()
        time.sleep(600)

    def hangs(self, plan, observer):
        observer.node_started("A")
        time.sleep(600)

    def grows(self, plan, observer):
        self.kept = bytearray(b"x") * (200 * 1024 * 1024)

def slow_warm_up(config):
    print("warm", flush=True)

def deadly_warm_up(config):
    print("no GPU today", flush=True)
    os._exit(3)
"""


class Observer:
    """Remembers what it is told, in order, and raises what it is told to."""

    def __init__(self, **raises):
        self.told = []
        self.raises = raises
        self.threads = set()

    def _tell(self, word, node=""):
        self.told.append(f"{word} {node}".strip())
        self.threads.add(threading.get_ident())
        if (error := self.raises.get(word)) is not None:
            raise error

    def check(self, node_id):
        self._tell("check", node_id)

    def node_started(self, node_id):
        self._tell("started", node_id)

    def node_finished(self, node_id):
        self._tell("finished", node_id)

    @contextmanager
    def fenced(self):
        self._tell("enter")
        try:
            yield
        except BaseException:
            self.told.append("rolled back")
            raise
        self._tell("leave")


class Here:
    """Stands for the DAG in the daemon's own process."""

    runner, code_digest = "local", "code"

    def give_up(self, run_id, fenced):
        with fenced():
            self.given_up = run_id


def plan_of(script):
    ref = SpanRef(span=3, version=1, digest="d")
    return RunPlan(
        run_id="r",
        trigger=script,
        span=ref,
        window=(ref,),
        initialisation="cold",
        champion=None,
        base=None,
        line_length=0,
        transform_graph_uri=None,
        analysis_window=(ref,),
        previous_statistics_uri=None,
        reference_statistics_uri=None,
        replay_uri=None,
        prequential_history=(),
        is_prequential=False,
        is_shadow=False,
        push_version=1,
        why=("a test",),
    )


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return what starts a worker with the scripted DAG; it is ended with the test."""
    (tmp_path / "scripted_dag.py").write_text(textwrap.dedent(DAG))
    monkeypatch.syspath_prepend(str(tmp_path))
    workers = []

    def begin(*, warm_up=None, code_digest="code", **options):
        settings = tuple(f"worker.{name}={value}" for name, value in options.items())
        config = load_config(Path("conf/flights.yaml"), (f"root={tmp_path}", *settings))
        setup = setup_of(config, "local", dag="scripted_dag:ScriptedDag", warm_up=warm_up)
        statuses, lines, changed = [], [], threading.Condition()

        def on_change(status):
            with changed:
                statuses.append(status)
                changed.notify_all()

        worker = Worker(setup, code_digest=code_digest, on_change=on_change, echo=lines.append)
        workers.append(worker)
        dag = WorkerDag(Here(), worker)
        dag.statuses, dag.lines, dag.worker = statuses, lines, worker

        def wait_for(is_so):
            with changed:
                assert changed.wait_for(lambda: statuses and statuses[-1] and is_so(statuses[-1]), PATIENCE_SECONDS)
            return statuses[-1]

        dag.wait_for = wait_for
        return dag

    yield begin
    for worker in workers:
        worker.close()


@pytest.fixture
def worker_log(caplog):
    caplog.set_level(logging.INFO, LOGGER_NAME)
    logging.getLogger(LOGGER_NAME).propagate = True
    return caplog


def run_pid(dag):
    """Return the process id of the process that runs a plan."""
    observer = Observer()
    dag.run(plan_of("say_pid"), observer)
    dag.outcome(plan_of("say_pid"), first_version=None, trained=None)
    return int(observer.told[0].split()[1])


def test_a_plan_runs_in_another_process_and_is_observed_here(start):
    observer = Observer()
    start().run(plan_of("two_nodes"), observer)
    node = ["started {0}", "enter", "leave", "finished {0}"]
    assert observer.told == [word.format("A") for word in node] + ["check B"] + [word.format("B") for word in node]
    assert observer.threads == {threading.get_ident()}


def test_the_process_is_kept_and_tells_outcomes(start):
    dag = start()
    pids = {run_pid(dag), run_pid(dag)}
    outcome = dag.outcome(plan_of("say_pid"), first_version=5, trained=None)
    assert pids == {int(outcome.reasons[0])} != {os.getpid()}
    assert outcome.reasons[1] == "5"


def test_giving_up_needs_no_process(start):
    dag = start()
    observer = Observer()
    dag.give_up("r", observer.fenced)
    assert observer.told == ["enter", "leave"]
    assert dag.statuses == []


@pytest.mark.parametrize(
    ("script", "how", "where"),
    [
        ("in_node", "ended by SIGKILL, which the kernel sends where memory is short", "in node 'B'"),
        ("in_fence", "ended by SIGABRT", "in node 'B'"),
        ("segfault", "ended by SIGSEGV", "in node 'B'"),
        ("between", "ended with exit code 7", "between two nodes"),
        ("garbage", r"sent what is no message.*Segmentation fault", "between two nodes"),
    ],
)
def test_a_process_that_dies_is_named_and_replaced(start, script, how, where):
    dag = start()
    before = run_pid(dag)
    with pytest.raises(WorkerDiedError, match=rf"{how}.*{where} of span 3") as caught:
        dag.run(plan_of(script), Observer())
    assert caught.value.retryable
    assert caught.value.blames_span
    assert run_pid(dag) != before


def test_a_fence_in_which_the_process_dies_is_rolled_back(start):
    observer = Observer()
    with pytest.raises(WorkerDiedError):
        start().run(plan_of("in_fence"), observer)
    assert observer.told == ["started B", "enter", "rolled back"]


def test_last_words_are_logged(start, worker_log):
    with pytest.raises(WorkerDiedError):
        start().run(plan_of("in_node"), Observer())
    (record,) = [record for record in worker_log.records if getattr(record, "event", "") == "worker_died"]
    assert record.last_lines == "B says its last words"
    assert "SIGKILL" in record.getMessage()


def test_a_crash_over_the_outcome_is_told(start):
    dag = start()
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        dag.outcome(plan_of("outcome_crash"), first_version=None, trained=None)
    with pytest.raises(DataError, match=r"^nothing there\.$"):
        dag.outcome(plan_of("outcome_failure"), first_version=None, trained=None)


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ("fails", DataError, r"^row 3 is broken\.$"),
        ("subclass", DataError, r"^row 4 is broken\.$"),
        ("full_disk", UnavailableError, "No space left on device"),
        ("bug", RuntimeError, "KeyError: 'label'"),
    ],
)
def test_a_failure_keeps_class_and_text_and_the_process(start, script, kind, text):
    dag = start()
    before = run_pid(dag)
    with pytest.raises(kind, match=text) as caught:
        dag.run(plan_of(script), Observer())
    assert type(caught.value) is kind
    assert run_pid(dag) == before


def has_printed(dag, *expected):
    """Wait for what the process printed, which comes on a way of its own."""
    end = time.monotonic() + 20
    while not set(expected) <= set(dag.lines) and time.monotonic() < end:
        time.sleep(0.05)
    return set(expected) <= set(dag.lines)


@pytest.mark.parametrize("moment", ["started", "finished", "check", "enter", "leave"])
@pytest.mark.parametrize("kind", [StoppedError, LeaseLostError])
def test_a_refusal_unwinds_the_dag_there_and_comes_back(start, moment, kind):
    dag = start()
    before = run_pid(dag)
    with pytest.raises(kind, match=r"^No further\.$"):
        dag.run(plan_of("clears_up"), Observer(**{moment: kind("No further.")}))
    assert run_pid(dag) == before
    assert has_printed(dag, f"cleared up after {kind.__name__}")


def test_what_fails_inside_the_fence_is_rolled_back(start):
    observer = Observer()
    with pytest.raises(DataError, match="not published"):
        start().run(plan_of("fails_in_fence"), observer)
    assert observer.told == ["started B", "enter", "rolled back"]


def test_nodes_side_by_side_are_inside_the_fence_one_at_a_time(start):
    observer = Observer()
    start().run(plan_of("together"), observer)
    assert len(observer.told) == 4 * 20 * 5
    for at in [index for index, told in enumerate(observer.told) if told == "enter"]:
        assert observer.told[at + 1].startswith("check inside")
        assert observer.told[at + 2] == "leave"


def test_what_libraries_print_is_no_message(start):
    dag = start()
    dag.run(plan_of("noise"), Observer())
    run_pid(dag)
    dag.worker.close()
    assert has_printed(dag, "{}", "\ufffd not utf-8", "from a grandchild")


def test_a_process_is_replaced_after_so_many_runs_while_nothing_runs(start, worker_log):
    dag = start(recycle_after_runs=2)
    first = [run_pid(dag), run_pid(dag)]
    successor = dag.wait_for(lambda status: status.state == "idle" and status.pid != first[0])
    assert len(set(first)) == 1
    assert not psutil.pid_exists(first[0])
    assert run_pid(dag) == successor.pid
    assert "is replaced: it has done 2 runs." in worker_log.text


def test_a_process_that_has_grown_is_replaced(start, worker_log):
    dag = start(max_memory_mb=300)
    before = run_pid(dag)
    dag.run(plan_of("grows"), Observer())
    dag.outcome(plan_of("grows"), first_version=None, trained=None)
    assert run_pid(dag) != before
    assert "is replaced: it holds " in worker_log.text


def test_a_run_that_comes_while_the_successor_warms_up_has_no_second_process_beside_it(start):
    dag = start(recycle_after_runs=1)
    pids = [run_pid(dag) for _ in range(3)]
    assert len(set(pids)) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids[:2])


def test_the_outcome_of_a_run_does_not_wait_for_the_successor(start):
    dag = start(recycle_after_runs=1)
    observer = Observer()
    dag.run(plan_of("say_pid"), observer)
    outcome = dag.outcome(plan_of("say_pid"), first_version=None, trained=None)
    assert observer.told[0] == f"started {outcome.reasons[0]}"


def test_status_says_what_the_process_does(start):
    dag = start(warm_up="scripted_dag:slow_warm_up")
    dag.worker.warm()
    assert dag.wait_for(lambda status: status.state == "idle").num_runs == 0
    pid = run_pid(dag)
    assert [status.state for status in dag.statuses] == ["warming", "idle", "busy", "idle", "busy", "idle", "idle"]
    assert {status.pid for status in dag.statuses} == {pid}
    assert dag.statuses[-1].num_runs == 1
    assert dag.statuses[-1].memory_mb > 1
    assert has_printed(dag, "warm")
    dag.worker.close()
    assert dag.statuses[-1] is None


def test_death_before_it_is_warm_blames_nobody(start, worker_log):
    dag = start(warm_up="scripted_dag:deadly_warm_up")
    with pytest.raises(UnavailableError, match=r"ended with exit code 3\. It was not warm yet\.") as caught:
        dag.run(plan_of("two_nodes"), Observer())
    assert not caught.value.blames_span
    assert "no GPU today" in worker_log.text


def test_other_code_is_refused(start):
    with pytest.raises(ConfigError, match=r"code has changed.*Start the daemon again"):
        start(code_digest="older").run(plan_of("two_nodes"), Observer())


def test_a_stop_ends_a_process_that_hangs(start):
    dag = start()
    failures, is_inside = [], threading.Event()
    observer = Observer()
    observer.node_started = lambda node_id: is_inside.set()

    def run():
        try:
            dag.run(plan_of("hangs"), observer)
        except WorkerDiedError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert is_inside.wait(PATIENCE_SECONDS)
    pid = dag.wait_for(lambda status: status.state == "busy").pid
    dag.worker.close()
    thread.join(PATIENCE_SECONDS)
    assert "in node 'A'" in str(failures[0])
    assert not psutil.pid_exists(pid)


def test_signals_of_the_terminal_are_the_daemons_to_decide_about(start):
    dag = start()
    pid = run_pid(dag)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert run_pid(dag) == pid
    assert os.getpgid(pid) != os.getpgid(0)


PARENT = """
import sys, time
from pathlib import Path
from pipeline.config import load_config
from pipeline.worker import Worker, setup_of
config = load_config(Path("conf/flights.yaml"), ("root=" + sys.argv[1],))
def tell(status):
    if status.state == "idle":
        print(status.pid, flush=True)
setup = setup_of(config, "local", dag="scripted_dag:ScriptedDag", warm_up=None)
Worker(setup, code_digest="code", on_change=tell).warm()
time.sleep(600)
"""


def test_the_process_dies_with_the_daemon(start, tmp_path):
    start()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as daemon:
        child = psutil.Process(int(daemon.stdout.readline()))
        daemon.kill()
        daemon.wait()
    try:
        child.wait(PATIENCE_SECONDS)
    except psutil.NoSuchProcess:
        return
    assert not child.is_running()
