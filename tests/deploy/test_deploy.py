"""The service files in `deploy/` are well-formed, hardened, and call commands that exist with options they have.

What no test here can show: that a cluster admits the manifests, that its storage can be shared, that images can be
pulled; and for the unit, that a cycle gets by with the system calls it leaves.
"""

import copy
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml

from cli.main import perennial

UNIT = Path("deploy/systemd/perennial-watch@.service")
MANIFESTS = {
    "watch": Path("deploy/kubernetes/watch.yaml"),
    "cronjob": Path("deploy/kubernetes/watch-cronjob.yaml"),
}
MODELS = {"PersistentVolumeClaim": "V1PersistentVolumeClaim", "Deployment": "V1Deployment", "CronJob": "V1CronJob"}


def _documents():
    return [
        pytest.param(document, id=f"{name}-{document['kind']}")
        for name, path in MANIFESTS.items()
        for document in yaml.safe_load_all(path.read_text())
    ]


def _pods():
    """Return the pod template of each manifest that has one."""
    by_kind = {param.values[0]["kind"]: param.values[0] for param in _documents()}
    return [
        pytest.param(by_kind["Deployment"]["spec"]["template"], id="watch"),
        pytest.param(by_kind["CronJob"]["spec"]["jobTemplate"]["spec"]["template"], id="cronjob"),
    ]


def _parses(words):
    """Check a command line of ours against the command: unknown options and bad values raise."""
    assert words[0].rpartition("/")[2] == "perennial"
    command = perennial.commands[words[1]]
    parent = click.Context(perennial, info_name=words[0], **perennial.context_settings)
    return command.make_context(words[1], list(words[2:]), parent=parent).params


def _unit_values(key):
    lines = UNIT.read_text().replace("\\\n", "").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


@pytest.mark.parametrize("document", _documents())
def test_manifests_hold_nothing_that_kubernetes_does_not_know(document):
    client = pytest.importorskip("kubernetes.client", reason="kubernetes is not installed: manifests not validated")
    api = client.ApiClient()
    document = copy.deepcopy(document)
    job = document["spec"].get("jobTemplate", {}).get("spec", {})
    for rule in job.get("podFailurePolicy", {}).get("rules", ()):
        # The client of this version takes the other half of a rule for required; the API wants one of the two.
        rule.setdefault("onPodConditions", [])
    response = SimpleNamespace(data=json.dumps(document))
    # Missing required keys raise here; keys that the API does not have get lost, and so are found by the comparison.
    parsed = api.deserialize(response, MODELS[document["kind"]])
    assert api.sanitize_for_serialization(parsed) == document
    api.close()


@pytest.mark.parametrize("pod", _pods())
def test_pods_may_do_nothing_they_need_not(pod):
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", _pods())
def test_pods_call_us_as_we_are(pod):
    (container,) = pod["spec"]["containers"]
    options = _parses(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert str(options["config_path"].parent) in mounts
    root = options["overrides"][0].removeprefix("root=")
    assert any(root.startswith(f"{mount}/") for mount in mounts)
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["spec"]["volumes"]}
    # A pod is killed at the end of its grace period; ours must be over by then.
    assert options["grace_seconds"] < pod["spec"]["terminationGracePeriodSeconds"]
    (secret,) = [entry for entry in container["env"] if entry["name"] == "PERENNIAL_LEDGER"]
    assert "value" not in secret


def test_probes_ask_where_the_daemon_answers():
    (pod,) = [param.values[0] for param in _pods() if param.id == "watch"]
    (container,) = pod["spec"]["containers"]
    options = _parses(container["args"])
    assert options["health_host"] == "0.0.0.0"
    assert container["ports"] == [{"name": "health", "containerPort": options["health_port"]}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_jobs_never_overlap_and_retry_what_may_pass():
    (document,) = list(yaml.safe_load_all(MANIFESTS["cronjob"].read_text()))
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
