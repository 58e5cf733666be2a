import subprocess
import time
from pathlib import Path

import psutil
import pytest

from core.errors import ConfigError
from pipeline.config import load_config
from pipeline.kubeflow.cluster import OVER
from pipeline.kubeflow.local_cluster import LocalCluster
from pipeline.kubeflow.local_folder import RunFolder
from pipeline.kubeflow.package import Package
from pipeline.kubeflow.package_spec import read_package

UNTIL = ["sh", "-c", 'until test -e "$0"; do sleep 0.01; done; test "$(cat "$0")" = good']


@pytest.fixture
def config(tmp_path):
    return load_config(Path("conf/flights.yaml"), (f"root={tmp_path / 'root'}",))


@pytest.fixture
def cluster(config):
    """A cluster of this machine; what a test leaves running is ended."""
    cluster = LocalCluster(config)
    yield cluster
    cluster.leave()


@pytest.fixture
def package(make_package, tmp_path):
    """One task that waits for a file and fails unless it says 'good', and one behind it."""
    tasks = {"first": {}, "gated": {"command": [*UNTIL, str(tmp_path / "word")], "after": ["first"]}}
    return Package(name="tiny", shape="cold", text=make_package(tasks), digest="abc")


def ended(cluster, run_id):
    """Follow a run to its end."""
    while (run := cluster.run(run_id)).state not in OVER:
        time.sleep(0.01)
    return run


def test_a_run_goes_on_in_the_background_and_is_found_by_its_name(cluster, package, tmp_path):
    assert cluster.find("run-1") is None
    run_id = cluster.submit(package, run_name="run-1", parameters={})
    assert cluster.find("run-1") == run_id
    assert cluster.submit(package, run_name="run-1", parameters={}) == run_id
    assert cluster.run(run_id).state in ("pending", "running")
    (tmp_path / "word").write_text("good")
    run = ended(cluster, run_id)
    assert run.state == "succeeded"
    assert [(task.node_id, task.state) for task in run.tasks] == [("first", "succeeded"), ("gated", "succeeded")]
    assert run.package == "cold-abc"
    assert cluster.url(run_id) == (tmp_path / "root/kubeflow/run-1").as_uri()


def test_a_failed_run_is_retried_from_where_it_failed(cluster, package, tmp_path):
    (tmp_path / "word").write_text("bad")
    run_id = cluster.submit(package, run_name="run-1", parameters={})
    failed = ended(cluster, run_id)
    assert failed.state == "failed"
    assert "Task 'gated' failed: exit code 1" in failed.error
    assert [task.error for task in failed.tasks] == [None, "exit code 1"]
    # Found again as it is; only a retry starts it again.
    assert cluster.submit(package, run_name="run-1", parameters={}) == run_id
    assert cluster.run(run_id).state == "failed"
    (tmp_path / "word").write_text("good")
    cluster.retry(run_id)
    assert ended(cluster, run_id).state == "succeeded"
    cluster.retry(run_id)
    assert cluster.run(run_id).state == "succeeded"


def test_a_cancelled_run_has_ended_when_cancel_returns(cluster, package):
    run_id = cluster.submit(package, run_name="run-1", parameters={})
    cluster.cancel(run_id)
    assert cluster.run(run_id).state == "cancelled"
    cluster.cancel(run_id)


def test_the_end_of_the_process_ends_the_run_and_the_next_one_goes_on(cluster, config, package, tmp_path):
    run_id = cluster.submit(package, run_name="run-1", parameters={})
    cluster.leave()
    following = LocalCluster(config)
    assert following.run(run_id).state == "cancelled"
    (tmp_path / "word").write_text("good")
    following.retry(run_id)
    assert ended(following, run_id).state == "succeeded"


def test_a_run_whose_worker_was_killed_goes_on_when_it_is_submitted_again(cluster, config, package, tmp_path):
    (tmp_path / "word").write_text("bad")
    ended(cluster, cluster.submit(package, run_name="run-1", parameters={}))
    folder = RunFolder(tmp_path / "root/kubeflow/run-1")
    folder.write(folder.record().model_copy(update={"state": "running"}))
    (tmp_path / "word").write_text("good")
    following = LocalCluster(config)
    assert following.run("run-1").state == "failed"
    assert following.run("run-1").error == "The process that ran it is gone."
    assert ended(following, following.submit(package, run_name="run-1", parameters={})).state == "succeeded"


def test_cancelling_ends_what_a_killed_worker_left_running(cluster, package, tmp_path):
    (tmp_path / "word").write_text("bad")
    ended(cluster, cluster.submit(package, run_name="run-1", parameters={}))
    folder = RunFolder(tmp_path / "root/kubeflow/run-1")
    task = read_package(package.text).task_named("gated")
    orphan = subprocess.Popen(["sleep", "600"])
    process = (orphan.pid, psutil.Process(orphan.pid).create_time())
    folder.write_task(task, folder.task(task).model_copy(update={"state": "running", "process": process}))
    folder.write(folder.record().model_copy(update={"state": "running"}))
    cluster.cancel("run-1")
    orphan.wait()
    assert not psutil.pid_exists(orphan.pid)
    assert cluster.run("run-1").state == "cancelled"


def test_an_unknown_run_is_named(cluster):
    with pytest.raises(ConfigError, match="No run 'run-9' was ever started on this machine"):
        cluster.run("run-9")


def test_a_package_of_another_run_is_refused(cluster, package, make_package):
    cluster.submit(package, run_name="run-1", parameters={})
    other = package.model_copy(update={"text": make_package({"a": {}})})
    with pytest.raises(ConfigError, match="differs in the package"):
        cluster.submit(other, run_name="run-1", parameters={})
