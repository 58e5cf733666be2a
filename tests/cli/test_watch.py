"""The daemon as a process: it starts in a second, answers, and leaves when it is told to."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from cli.main import perennial

PATIENCE_SECONDS = 60  # for a process on a busy machine; usually it takes a second or two
PROGRAM = [sys.executable, "-c", "from cli.main import main; main()"]


@pytest.fixture
def root(tmp_path):
    return f"root={tmp_path / 'root'}"


@pytest.fixture
def start(root):
    """Start `perennial watch` on a pipeline without spans; whatever happens it is gone after the test."""
    processes = []

    def run(*arguments):
        command = [*PROGRAM, "watch", "--set", root, *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "120"})
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait(PATIENCE_SECONDS)
        process.stderr.close()


def _read_until(process, pattern):
    """Read the log up to the line that has `pattern`, and return the match."""
    for line in process.stderr:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"{pattern} was never said; exit code {process.wait(PATIENCE_SECONDS)}")


def _get(address, path):
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=PATIENCE_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_leaves_on_a_signal(start, number):
    process = start("--health-port", "0", "--log", "json", "--set", "triggers.poll_seconds=0.2")
    address = _read_until(process, r"health: (http://127.0.0.1:\d+)")[1]
    _read_until(process, '"event": "lease_taken"')
    assert _get(address, "/healthz") == (200, {"live": True})
    assert _get(address, "/status")[1]["pipeline"] == "flights"
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(PATIENCE_SECONDS) == 0
    assert json.loads(rest.splitlines()[-1])["event"] == "left"


def test_a_second_daemon_stands_by_and_takes_over(start):
    first = start("--log", "json")
    _read_until(first, '"event": "lease_taken"')
    fast = ["--set", "triggers.poll_seconds=0.2", "--set", "worker.lease_ttl_seconds=3"]
    second = start("--log", "text", *fast)
    _read_until(second, r"New spans are told of by")
    # The death of a process of this host is noticed at once, and a live one's lease is left alone until then.
    first.kill()
    _read_until(second, "This worker has the lease")
    second.terminate()
    second.stderr.read()
    assert second.wait(PATIENCE_SECONDS) == 0


def test_once_ends_by_itself_and_without_tensorflow(root):
    program = "import sys; from cli.main import perennial; perennial(sys.argv[1:], standalone_mode=False);"
    program += "sys.exit('tensorflow' in sys.modules or 'tfx' in sys.modules)"
    command = [sys.executable, "-c", program, "watch", "--set", root, "--once", "--log", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events == ["lease_taken", "left"]


def test_a_request_waits_for_a_daemon(root):
    runner = CliRunner()
    asked = runner.invoke(perennial, ["trigger", "--set", root, "--span", "7"], catch_exceptions=False)
    assert asked.output == (
        "Request 1 asks for span 7. No worker holds the pipeline: the request waits until somebody runs "
        "`perennial watch`.\n"
    )
    again = runner.invoke(perennial, ["trigger", "--set", root, "--initialisation", "cold", "--json"])
    document = json.loads(again.output)
    assert (document["worker"], document["request"]["id"], document["request"]["initialisation"]) == (None, 2, "cold")


def test_a_request_names_the_worker(start, root):
    process = start("--log", "json")
    _read_until(process, '"event": "lease_taken"')
    asked = CliRunner().invoke(perennial, ["trigger", "--set", root])
    assert re.search(rf"Worker \S+:{process.pid}:\S+, last heard of at .* UTC, holds the pipeline\.", asked.output)


def test_a_taken_port_says_how_to_choose_another(root, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*PROGRAM, "watch", "--set", root, "--once", "--health-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 2
    assert f"Nothing can listen on 127.0.0.1:{port}: Address already in use." in done.stderr
    assert "Choose another with --health-port" in done.stderr


def test_a_missing_ledger_variable_is_said_at_once(root):
    command = [*PROGRAM, "watch", "--set", root, "--set", "ledger=env:NO_SUCH_LEDGER"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 2
    assert "Expected it in the environment variable 'NO_SUCH_LEDGER'" in done.stderr
