"""A real Flink cluster comes up with its task managers, and leaves nothing behind."""

import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import ConfigError, PipelineError, UnavailableError
from pipeline.flink import check_cluster
from tools.flink.cluster import Cluster, free_port, worker_environment
from tools.flink.fetch import fetch_flink


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "cluster", rest_port=free_port(), pool_port=free_port())


@pytest.mark.slow
@pytest.mark.e2e
def test_cluster_starts_and_stops(cluster: Cluster):
    if shutil.which("java") is None:
        pytest.skip("NOT TESTED on Flink: no java here. Install Java 17.")
    try:
        jars = fetch_flink()
    except PipelineError as error:
        pytest.skip(f"NOT TESTED on Flink: {error}")
    cluster.start(jars)
    try:
        check_cluster(cluster.options)
        assert len(cluster.processes()) == 4
        with pytest.raises(ConfigError, match=r"runs already\. Stop it first"):
            cluster.start(jars)
    finally:
        assert cluster.stop() >= 4
    assert cluster.processes() == []
    with pytest.raises(UnavailableError, match=r"does not answer"):
        check_cluster(cluster.options)


def test_nothing_to_stop_is_fine(cluster: Cluster):
    cluster.folder.mkdir()
    assert cluster.stop() == 0


def test_a_process_that_only_has_the_number_is_left_alone(cluster: Cluster):
    """Numbers are given anew: what had it then is gone, and this test must live."""
    cluster.folder.mkdir()
    started = psutil.Process().create_time() - 60
    (cluster.folder / "pids.json").write_text(f'{{"job-manager": [{os.getpid()}, {started}]}}')
    assert cluster.stop() == 0


def test_workers_are_started_by_this_python():
    found = shutil.which("python", path=worker_environment()["PATH"])
    assert found is not None
    assert Path(found).parent == Path(sys.executable).parent
