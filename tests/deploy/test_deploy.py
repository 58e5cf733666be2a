"""The service files in `deploy/` are well-formed, hardened, and call commands that exist with options they have.

What no test here can show: that a cycle gets by with the system calls that the unit leaves. For what else the manifests
say: test_manifests.py.
"""

import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from cli.main import perennial

UNIT = Path("deploy/systemd/perennial-watch@.service")
# Whose containers call us, and the file that says how; a patch names all arguments again.
CALLERS = {
    "watch": Path("deploy/kubernetes/watch.yaml"),
    "cronjob": Path("deploy/kubernetes/watch-cronjob.yaml"),
    "kubeflow": Path("deploy/kubeflow/watch.yaml"),
}


def _pod(name):
    spec = yaml.safe_load(CALLERS[name].read_text())["spec"]
    return spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]


@pytest.fixture(params=CALLERS)
def caller(request):
    """The pod that calls us, and its container; what a patch leaves out is as in what it changes."""
    pod = _pod(request.param)
    whole = _pod("watch") if request.param == "kubeflow" else pod
    return whole, {**whole["containers"][0], "args": pod["containers"][0]["args"]}


def _parses(words):
    """Check a command line of ours against the command: unknown options and bad values raise."""
    assert words[0].rpartition("/")[2] == "perennial"
    command = perennial.commands[words[1]]
    parent = click.Context(perennial, info_name=words[0], **perennial.context_settings)
    return command.make_context(words[1], list(words[2:]), parent=parent).params


def _unit_values(key):
    lines = UNIT.read_text().replace("\\\n", "").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def test_pods_call_us_as_we_are(caller):
    pod, container = caller
    options = _parses(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert str(options["config_path"].parent) in mounts
    places = dict(override.split("=", 1) for override in options["overrides"])
    assert any(places["root"].startswith(f"{mount}/") for mount in mounts)
    # A pod is killed at the end of its grace period; ours must be over by then.
    assert options["grace_seconds"] < pod["terminationGracePeriodSeconds"]
    given = {variable["name"] for variable in container["env"] if "valueFrom" in variable}
    assert {places["ledger"], places["metadata"]} == {f"env:{name}" for name in given}


@pytest.mark.parametrize("caller", ["watch", "kubeflow"], indirect=True)
def test_probes_ask_where_the_daemon_answers(caller):
    _, container = caller
    options = _parses(container["args"])
    assert options["health_host"] == "0.0.0.0"
    assert container["ports"] == [{"name": "health", "containerPort": options["health_port"]}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_jobs_never_overlap_and_retry_what_may_pass():
    document = yaml.safe_load(CALLERS["cronjob"].read_text())
    assert document["spec"]["concurrencyPolicy"] == "Forbid"
    job = document["spec"]["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "watch", "operator": "NotIn", "values": [75]}
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_unit_is_one_that_systemd_accepts(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was not verified")
    # The program is where an installation puts it, which is not here.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/perennial/.venv/bin/perennial", shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_calls_us_as_we_are():
    (line,) = _unit_values("ExecStart")
    options = _parses(shlex.split(line))
    (timeout,) = _unit_values("TimeoutStopSec")
    assert options["grace_seconds"] < float(timeout.removesuffix("s"))
    (state,) = _unit_values("StateDirectory")
    assert options["overrides"] == (f"root=/var/lib/{state}",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("Restart", "on-failure"),
        ("KillSignal", "SIGTERM"),
        ("User", "perennial"),
        ("RestartPreventExitStatus", "2"),
    ],
)
def test_the_unit_is_hardened(key, value):
    assert _unit_values(key) == [value]
