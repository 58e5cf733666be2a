"""`perennial watch` with its worker process: killed in mid-cycle, it is replaced, and the span ends as it should."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import psutil
import pytest

from ledger.ledger import Ledger
from tools.drill.small_pipeline import make_small_pipeline

pytestmark = pytest.mark.e2e

PATIENCE_SECONDS = 600  # for two cycles on a busy machine
PROGRAM = [sys.executable, "-c", "from cli.main import main; main()", "watch", "--log", "json"]


@pytest.fixture(scope="module")
def watched(flights_spans, tmp_path_factory):
    """The ledger's rows after a daemon whose worker process was killed in the Trainer, and all that it logged."""
    pipeline = make_small_pipeline(
        tmp_path_factory.mktemp("watched") / "pipeline",
        flights_spans,
        num_spans=3,
        triggers={"min_interval_seconds": 0, "poll_seconds": 1},
        retries={"backoff_seconds": 0},
    )
    command = [*PROGRAM, "--config", str(pipeline.config_file), "--health-port", "0"]
    lines, daemon = (
        [],
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "120"}),
    )
    reader = threading.Thread(target=lambda: lines.extend(daemon.stderr))
    reader.start()
    try:
        with Ledger.open(pipeline.config.ledger_url, pipeline.config.name) as ledger:
            address = _until(lambda: _address(lines))
            status = _until(lambda: (found := _status(address))["node"] == "Trainer" and found)
            killed = status["worker"]["pid"]
            os.kill(killed, signal.SIGKILL)
            _until(lambda: all(row.state in ("trained", "pushed") for row in ledger.spans()) and _status(address))
            after = _until(lambda: (found := _status(address))["state"] == "idle" and found)
            has_tensorflow = any("tensorflow" in area.path for area in psutil.Process(daemon.pid).memory_maps())
            daemon.terminate()
            assert daemon.wait(PATIENCE_SECONDS) == 0
            reader.join()
            yield {
                "spans": {row.span: row.state for row in ledger.spans()},
                "killed": killed,
                "after": after["worker"],
                "has_tensorflow": has_tensorflow,
                "runs": list(ledger.runs(limit=10)),
                "log": "".join(lines),
            }
    finally:
        daemon.kill()
        daemon.wait(PATIENCE_SECONDS)
        daemon.stderr.close()


def _address(lines):
    return next((match[1] for line in lines if (match := re.search(r"health: (http\S+)", line))), None)


def _status(address):
    with urllib.request.urlopen(f"{address}/status", timeout=60) as response:
        return json.load(response)


def _until(find):
    """Look until something is found."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.05)
    raise AssertionError(f"Not within {PATIENCE_SECONDS} s.")


def test_the_span_of_the_killed_process_is_pushed_by_the_next_one(watched):
    assert watched["spans"] == {1: "trained", 2: "pushed", 3: "pushed"}
    assert watched["after"]["pid"] != watched["killed"]
    assert len(watched["runs"]) == 2


def test_the_death_is_told(watched):
    assert re.search(r"ended by SIGKILL.* in node .*'Trainer'.* of span 2", watched["log"])


def test_the_daemon_has_never_loaded_tensorflow(watched):
    assert not watched["has_tensorflow"]


def test_the_process_ends_with_the_daemon(watched):
    assert not psutil.pid_exists(watched["after"]["pid"])
