"""Where Beam's jobs go in these tests: job servers and workers in processes of their own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.errors import PipelineError
from schemas.engine import BeamOptions
from tools.flink.cluster import HOST, Cluster, free_port, worker_environment, worker_pool_command
from tools.flink.fetch import fetch_flink, fetch_job_server

START_SECONDS = 60


@contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    """Run a server and wait until it answers."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=worker_environment(), **quiet) as server:
        try:
            with grpc.insecure_channel(f"{HOST}:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
            yield
        finally:
            server.terminate()


@contextmanager
def _beams_own_job_server(folder: Path) -> Iterator[BeamOptions]:
    """Start the job server that Beam brings, in Python: all of the way to Flink but Flink itself."""
    port, pool = free_port(), free_port()
    server = ["-m", "apache_beam.runners.portability.local_job_service_main", "--port", str(port)]
    with (
        _process([sys.executable, *server, "--staging_dir", str(folder)], port),
        _process(worker_pool_command(pool), pool),
    ):
        yield BeamOptions(
            runner="flink",
            num_workers=2,
            job_endpoint=f"{HOST}:{port}",
            environment="EXTERNAL",
            environment_config=f"{HOST}:{pool}",
        )


@contextmanager
def _flink(folder: Path) -> Iterator[BeamOptions]:
    try:
        fetch_job_server()
        jars = fetch_flink()
    except PipelineError as error:
        pytest.skip(f"NOT TESTED on Flink: {error}")
    cluster = Cluster(folder, rest_port=free_port(), pool_port=free_port())
    cluster.start(jars)
    try:
        yield cluster.options
    finally:
        cluster.stop()


SERVERS: dict[str, Callable[..., Iterator[BeamOptions]]] = {"job-server": _beams_own_job_server, "flink": _flink}


@pytest.fixture(scope="module", params=SERVERS)
def beam(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeamOptions]:
    """Return how to reach a job server."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as options:
        yield options
