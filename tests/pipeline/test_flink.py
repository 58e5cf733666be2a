"""What the checks before a run find; the cluster is a server of the test's own."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, UnavailableError
from pipeline.flink import BEAM_PROPERTIES, check_cluster, check_job_server, job_server_jar
from schemas.engine import BeamOptions

BEAM = version("apache-beam")


def check_jar(path: Path) -> None:
    check_job_server(BeamOptions(runner="flink", job_server_jar=str(path)))


@pytest.fixture
def cluster() -> Iterator[Callable[[Any], BeamOptions]]:
    """Serve an overview as a Flink cluster's REST endpoint does."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/overview" else 404)
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def options(overview: Any) -> BeamOptions:
            answers.append(json.dumps(overview).encode())
            return BeamOptions(runner="flink", num_workers=2, flink_master=f"127.0.0.1:{server.server_port}")

        yield options
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("with_java")
def test_job_server_of_the_installed_beam_passes(make_jar: Callable[..., Path]):
    check_jar(make_jar({BEAM_PROPERTIES: f"# a comment\n\nversion={BEAM}\nsdk_version={BEAM}\n"}))


@pytest.mark.usefixtures("with_java")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({BEAM_PROPERTIES: "version=2.1.0\n"}, rf"does not fit\. Expected Beam {BEAM}, .*; received '2\.1\.0'\. Run"),
        ({BEAM_PROPERTIES: "sdk_version=1\n"}, r"does not fit\..*received 'sdk_version=1"),
        ({"META-INF/MANIFEST.MF": ""}, r"is no job server of Beam\. Expected a jar with org/apache/beam/.*Run `make"),
    ],
    ids=["old", "unversioned", "another-jar"],
)
def test_other_jars_are_refused(make_jar: Callable[..., Path], files: dict[str, str], message: str):
    with pytest.raises(ConfigError, match=message):
        check_jar(make_jar(files))


@pytest.mark.usefixtures("with_java")
def test_what_is_no_jar_is_refused(tmp_path: Path):
    (tmp_path / "page.jar").write_text("404 Not Found")
    with pytest.raises(ConfigError, match=r"is no job server of Beam.*File is not a zip file.*correct beam\.job_serv"):
        check_jar(tmp_path / "page.jar")


@pytest.mark.usefixtures("with_java")
def test_missing_jar_names_the_target_that_fetches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = BeamOptions(runner="flink")
    jar = job_server_jar(options)
    assert jar.is_relative_to(tmp_path)
    assert jar.name == f"beam-runners-flink-1.20-job-server-{BEAM}.jar"
    with pytest.raises(ConfigError, match=rf"received no file '{jar}'\. Run `make flink`, or set beam\.job_server_jar"):
        check_job_server(options)


def test_missing_java_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"Expected a program java on the PATH.*Install Java 17, or set beam\.job_en"):
        check_job_server(BeamOptions(runner="flink"))


def test_server_that_runs_elsewhere_needs_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    check_job_server(BeamOptions(runner="flink", job_endpoint="flink-jobs:8099"))


def test_server_that_runs_elsewhere_is_looked_for_in_place_of_the_cluster(cluster: Callable[[Any], BeamOptions]):
    there = cluster({}).flink_master
    check_cluster(BeamOptions(runner="flink", job_endpoint=there, flink_master="127.0.0.1:1"))
    with pytest.raises(UnavailableError, match=r"Expected it at 127\.0\.0\.1:1; received .*refused.*beam\.job_en"):
        check_cluster(BeamOptions(runner="flink", job_endpoint="127.0.0.1:1", flink_master=there))


def test_cluster_of_the_line_with_enough_slots_passes(cluster: Callable[[Any], BeamOptions]):
    check_cluster(cluster({"taskmanagers": 2, "slots-total": 2, "flink-version": "1.20.5"}))


@pytest.mark.parametrize(
    ("overview", "message"),
    [
        (
            {"taskmanagers": 1, "slots-total": 1, "flink-version": "1.20.5"},
            r"too small.*=2 task slots; received 1 in 1",
        ),
        ({"taskmanagers": 2, "slots-total": 4, "flink-version": "2.0.1"}, r"Expected Flink 1\.20; received 2\.0\.1"),
        ({"taskmanagers": 2, "slots-total": 4, "flink-version": "1.2.0"}, r"Expected Flink 1\.20; received 1\.2\.0"),
        ({}, r"Expected Flink 1\.20; received no version"),
    ],
    ids=["small", "newer", "older", "something-else"],
)
def test_cluster_that_does_not_fit_is_refused(
    cluster: Callable[[Any], BeamOptions], overview: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        check_cluster(cluster(overview))


def test_cluster_that_is_away_may_come_back():
    with pytest.raises(
        UnavailableError, match=r"REST endpoint at http://127\.0\.0\.1:1; received .*refused.*tools\.flink"
    ):
        check_cluster(BeamOptions(runner="flink", flink_master="127.0.0.1:1"))
