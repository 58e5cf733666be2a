"""The manifests of deploy/flink are what Kubernetes knows, fit the rest of deploy, and the config that uses them.

What no test here can show: that a cluster admits them, and that Beam's job server runs there.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.beam import beam_args
from pipeline.config import Config, load_config
from pipeline.flink import FLINK_LINE
from tools import kubernetes_schemas
from tools.flink.fetch import FLINK_VERSION

FOLDER = Path("deploy/flink")
MANIFESTS = ("job-manager", "job-server", "task-managers", "network")
# One process builds the programs, or finds them built.
pytestmark = pytest.mark.xdist_group("go")


@pytest.fixture(scope="module")
def flink() -> dict[tuple[str, str], Any]:
    """Every object, by kind and name."""
    found = {}
    for name in MANIFESTS:
        for document in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


@pytest.fixture(scope="module")
def containers(flink: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Every container, by name."""
    templates = [document["spec"]["template"]["spec"] for (kind, _), document in flink.items() if kind == "Deployment"]
    return {container["name"]: container for template in templates for container in template["containers"]}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "flights.yaml"
    path.write_text(Path("conf/flights.yaml").read_text() + (FOLDER / "config.yaml").read_text())
    return load_config(path)


def _ports(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def _words(*lists: list[str]) -> Iterator[tuple[str, str]]:
    for word in (word for words in lists for word in words):
        name, _, value = word.partition("=")
        yield name, value


def test_all_manifests_are_put_together(kustomize: list[str], kubeconform: Path, schemas: Path):
    done = subprocess.run([*kustomize, str(FOLDER)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {"../kubernetes", *(f"{name}.yaml" for name in MANIFESTS)}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*MANIFESTS, "kustomization", "config"}
    location = f"{schemas}/{kubernetes_schemas.TEMPLATE}"
    words = [str(kubeconform), "-strict", "-summary", "-output", "json", "-schema-location", location, "-"]
    judged = json.loads(subprocess.run(words, input=done.stdout, capture_output=True, text=True).stdout)
    built = list(yaml.safe_load_all(done.stdout))
    assert judged["summary"] == {"valid": len(built), "invalid": 0, "errors": 0, "skipped": 0}


def test_containers_may_do_nothing_they_need_not(flink: dict[tuple[str, str], Any], containers: dict[str, Any]):
    for (kind, name), document in flink.items():
        if kind == "Deployment":
            spec = document["spec"]["template"]["spec"]
            assert spec["securityContext"]["runAsNonRoot"], name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert spec["automountServiceAccountToken"] is False, name
            mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in spec["volumes"]}, name
    for name, container in containers.items():
        security = container["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True), name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name


def test_versions_are_those_of_the_lock_and_of_the_checks(containers: dict[str, Any]):
    (beam,) = re.findall(r"^apache-beam==([\d.]+)", Path("requirements/current.lock").read_text(), re.MULTILINE)
    assert containers["job-server"]["image"] == f"apache/beam_flink{FLINK_LINE}_job_server:{beam}"
    assert containers["task-manager"]["image"] == containers["job-manager"]["image"] == f"flink:{FLINK_VERSION}"
    assert FLINK_VERSION.startswith(f"{FLINK_LINE}.")


def test_the_config_leads_to_the_job_server_and_to_the_workers(
    config: Config, flink: dict[tuple[str, str], Any], containers: dict[str, Any]
):
    said = dict(_words(beam_args(config.beam)))
    ports = {port["name"]: port["port"] for port in flink["Service", "flink-job-server"]["spec"]["ports"]}
    assert said["--runner"] == "PortableRunner"
    assert said["--job_endpoint"] == f"flink-job-server:{ports['jobs']}"
    assert said["--artifact_endpoint"] == f"flink-job-server:{ports['artifacts']}"
    # Containers of a pod share their localhost.
    assert said["--environment_config"] == f"localhost:{_ports(containers['python-workers'])['workers']}"
    assert dict(_words(containers["python-workers"]["args"]))["--service_port"] == "50000"
    assert int(said["--parallelism"]) <= flink["Deployment", "flink-task-manager"]["spec"]["replicas"]
    (data,) = [mount for mount in containers["python-workers"]["volumeMounts"] if mount["name"] == "data"]
    watch = Path("deploy/kubernetes/watch.yaml").read_text()
    assert f"--set=root={data['mountPath']}/" in watch


def test_ports_are_the_same_everywhere(flink: dict[tuple[str, str], Any], containers: dict[str, Any]):
    settings = yaml.safe_load(flink["ConfigMap", "flink"]["data"]["config.yaml"])
    manager, worker, server = (containers[name] for name in ("job-manager", "task-manager", "job-server"))
    assert _ports(manager) == {
        "rpc": settings["jobmanager.rpc.port"],
        "blob": settings["blob.server.port"],
        "rest": settings["rest.port"],
    }
    assert _ports(worker) == {"rpc": settings["taskmanager.rpc.port"], "data": settings["taskmanager.data.port"]}
    said = dict(_words(server["args"]))
    assert said["--flink-master"] == f"{settings['rest.address']}:{settings['rest.port']}"
    assert _ports(server) == {"jobs": int(said["--job-port"]), "artifacts": int(said["--artifact-port"])}
    for name in ("flink-job-manager", "flink-job-server"):
        service = flink["Service", name]["spec"]
        (container,) = flink["Deployment", name]["spec"]["template"]["spec"]["containers"]
        assert service["selector"] == flink["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert {port["targetPort"]: port["port"] for port in service["ports"]} == _ports(container)


def test_policies_let_through_every_port_that_another_pod_asks(
    flink: dict[tuple[str, str], Any], containers: dict[str, Any]
):
    cluster = flink["NetworkPolicy", "flink"]["spec"]
    for rules in (cluster["ingress"][0]["ports"], cluster["egress"][0]["ports"]):
        allowed = {port for rule in rules for port in range(rule["port"], rule.get("endPort", rule["port"]) + 1)}
        assert {*_ports(containers["job-manager"]).values(), *_ports(containers["task-manager"]).values()} == allowed
    deployed = [document["spec"]["template"] for (kind, _), document in flink.items() if kind == "Deployment"]
    components = {template["metadata"]["labels"]["app.kubernetes.io/component"] for template in deployed}
    (selected,) = cluster["podSelector"]["matchExpressions"]
    assert set(selected["values"]) == components
    jobs = set(_ports(containers["job-server"]).values())
    for name, way in (("flink-job-server-from-watch", "ingress"), ("watch-to-flink-job-server", "egress")):
        (rule,) = flink["NetworkPolicy", name]["spec"][way]
        assert {port["port"] for port in rule["ports"]} == jobs


def test_task_managers_fit_their_containers(flink: dict[tuple[str, str], Any], containers: dict[str, Any]):
    settings = yaml.safe_load(flink["ConfigMap", "flink"]["data"]["config.yaml"])
    for role in ("job", "task"):
        said = int(settings[f"{role}manager.memory.process.size"].removesuffix("m"))
        limit = int(containers[f"{role}-manager"]["resources"]["limits"]["memory"].removesuffix("Gi"))
        assert said < limit * 1024
