"""The manifests are what Kubernetes 1.34 knows, agree with one another and the code, and allow no more than needed.

What no test here can show: that a cluster admits them, that its storage can be shared, that images can be pulled.
"""

import copy
import json
import re
import subprocess
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline.config import load_config
from tools import kubernetes_schemas

IMAGE = "perennial:0.1.0"
# One process builds the programs, or finds them built.
pytestmark = pytest.mark.xdist_group("go")
# Kinds that the Kubernetes client has no models for.
CUSTOM = {"NodePool"}
# By who follows a comment, and by KFP's own installation.
MADE_BY_HAND = {("ConfigMap", "perennial", "perennial-flights"), ("Role", "kubeflow", "pipeline-runner")}
UNITS = {"": 1, "m": Fraction(1, 1000), "Mi": 2**20, "Gi": 2**30}


def _amount(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(quantity)).groups()
    return Fraction(number) * UNITS[unit]


def _secrets_made():
    """Return the keys of each secret that the comments say how to make, by (namespace, name)."""
    text = "".join(path.read_text() for path in Path("deploy").rglob("*.yaml"))
    commands = re.findall(r"--namespace (\S+) create secret generic (\S+) \\\n((?:# +--from-literal.*\n)+)", text)
    return {(space, name): set(re.findall(r"--from-literal=([\w-]+)=", lines)) for space, name, lines in commands}


def _all_text():
    """Return what git would take of the folder: a healthcheck that was imported leaves bytecode there."""
    files = [path for path in Path("deploy").rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    return "".join(path.read_text() for path in files)


def _conforms(kubeconform, schemas, text):
    location = f"{schemas}/{kubernetes_schemas.TEMPLATE}"
    words = [str(kubeconform), "-strict", "-summary", "-output", "json", "-schema-location", location, "-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_kubeconform_accepts_every_manifest(kubeconform, schemas, manifest_files, documents):
    text = "\n---\n".join(path.read_text() for path in manifest_files)
    result = _conforms(kubeconform, schemas, text)
    assert result["resources"] == []
    assert result["summary"] == {"valid": len(documents), "invalid": 0, "errors": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("minReplicas: 2", "minReplicas: two"),
        ("minReplicas: 2", "minimumReplicas: 2"),
        ("restartPolicy: Never", "restartPolicy: Never\n          restartPolicy: Never"),
        ("consolidateAfter: 5m", "consolidateAfter: soon"),
    ],
    ids=["type", "key", "twice", "custom"],
)
def test_kubeconform_refuses_what_is_wrong(kubeconform, schemas, manifest_files, before, after):
    text = "\n---\n".join(path.read_text() for path in manifest_files)
    assert before in text
    summary = _conforms(kubeconform, schemas, text.replace(before, after))["summary"]
    assert summary["invalid"] + summary["errors"] == 1


@pytest.mark.parametrize("folder", ["deploy/kubernetes", "deploy/kubeflow"])
def test_kustomize_puts_them_together(kustomize, kubeconform, schemas, folder):
    done = subprocess.run([*kustomize, folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    built = list(yaml.safe_load_all(done.stdout))
    assert _conforms(kubeconform, schemas, done.stdout)["summary"] == {
        "valid": len(built),
        "invalid": 0,
        "errors": 0,
        "skipped": 0,
    }
    (watch,) = [each for each in built if each["metadata"]["name"] == "perennial-watch-flights"]
    args = watch["spec"]["template"]["spec"]["containers"][0]["args"]
    assert ("--runner=kubeflow" in args) == (folder == "deploy/kubeflow")


def test_the_kubernetes_client_knows_all_of_it(documents):
    client = pytest.importorskip("kubernetes.client", reason="kubernetes is not installed: no models to compare with")
    api = client.ApiClient()
    for key, original in documents.items():
        if key[0] in CUSTOM:
            continue
        document = copy.deepcopy(original)
        job = document.get("spec", {}).get("jobTemplate", {}).get("spec", {})
        for rule in job.get("podFailurePolicy", {}).get("rules", ()):
            # The client of this version takes the other half of a rule for required; the API wants one of the two.
            rule.setdefault("onPodConditions", [])
        response = SimpleNamespace(data=json.dumps(document))
        # Missing required keys raise here; keys that the API does not have get lost, and so the comparison finds them.
        model = document["apiVersion"].rpartition("/")[2].capitalize() + document["kind"]
        assert api.sanitize_for_serialization(api.deserialize(response, model)) == document, key
    api.close()


def test_pods_may_do_nothing_they_need_not(pods):
    assert len(pods) == 4
    for key, pod in pods.items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], key
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, key
        assert spec["automountServiceAccountToken"] is False, key
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True), key
        assert security["capabilities"] == {"drop": ["ALL"]}, key
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), key
        assert "memory" in container["resources"]["limits"], key
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            *(volume["name"] for volume in spec["volumes"]),
            *(["data"] if key[0] == "StatefulSet" else []),
        }, key


def test_images_are_pinned_and_ours_is_one(pods):
    images = {pod["spec"]["containers"][0]["image"] for pod in pods.values()}
    assert all(re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+", image) for image in images)
    text = _all_text()
    assert set(re.findall(r"\bperennial:[\d.]+", text)) == {IMAGE}
    kustomization = yaml.safe_load(Path("deploy/kubernetes/kustomization.yaml").read_text())
    assert [f"{image['name']}:{image['newTag']}" for image in kustomization["images"]] == [IMAGE]
    assert f'version="{IMAGE.partition(":")[2]}"' in Path("setup.py").read_text()


def test_serving_is_of_the_release_that_the_lock_has(pods):
    image = pods["Deployment", "perennial-serving", "flights"]["spec"]["containers"][0]["image"]
    lock = Path("requirements/current.lock").read_text()
    assert f"\ntensorflow-serving-api=={image.partition(':')[2]} " in lock


def test_what_is_referred_to_exists(documents, pods):
    for (_, space, _), pod in pods.items():
        spec = pod["spec"]
        wanted = {("PriorityClass", None, spec["priorityClassName"])}
        for volume in spec["volumes"]:
            if "configMap" in volume:
                wanted.add(("ConfigMap", space, volume["configMap"]["name"]))
            if "persistentVolumeClaim" in volume:
                wanted.add(("PersistentVolumeClaim", space, volume["persistentVolumeClaim"]["claimName"]))
        assert wanted - MADE_BY_HAND <= documents.keys()
    for kind, space, name in documents:
        # KFP's installation makes its own namespace.
        assert space in (None, "kubeflow") or ("Namespace", None, space) in documents, (kind, name)
    for (kind, space, _), document in documents.items():
        if kind == "RoleBinding":
            role = document["roleRef"]
            assert ("Role", space, role["name"]) in documents.keys() | MADE_BY_HAND
            for subject in document["subjects"]:
                assert ("ServiceAccount", subject["namespace"], subject["name"]) in documents


def test_secrets_are_made_by_a_command_and_hold_the_keys_that_are_read(pods):
    made = _secrets_made()
    read = {
        (space, variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
        for (_, space, _), pod in pods.items()
        for variable in pod["spec"]["containers"][0].get("env", ())
        if "valueFrom" in variable
    }
    config = yaml.safe_load(Path("deploy/kubeflow/config.yaml").read_text())["kubeflow"]
    read |= {(config["namespace"], each["secret"], each["key"]) for each in config["secrets"].values()}
    assert {(space, name, key) for (space, name), keys in made.items() for key in keys} == read


def test_no_manifest_holds_a_secret(documents):
    assert "Secret" not in {kind for kind, _, _ in documents}
    text = _all_text()
    assert re.findall(r"://[^/@\s:]+:(?!\$password@)[^/@\s]+@", text) == []


def test_volumes_and_claims_are_pairs(documents):
    for (kind, _, name), volume in documents.items():
        if kind != "PersistentVolume":
            continue
        reference = volume["spec"]["claimRef"]
        claim = documents["PersistentVolumeClaim", reference["namespace"], reference["name"]]["spec"]
        assert claim["volumeName"] == name
        assert claim["accessModes"] == volume["spec"]["accessModes"]
        assert claim["resources"]["requests"]["storage"] == volume["spec"]["capacity"]["storage"]


def test_serving_sees_the_served_versions_alone_and_where_they_are_pushed(documents, pods):
    (container,) = pods["Deployment", "perennial", "perennial-watch-flights"]["spec"]["containers"]
    root = next(word for word in container["args"] if word.startswith("--set=root=")).removeprefix("--set=root=")
    config = load_config(Path("conf/flights.yaml"), (f"root={root}",))
    mounted = documents["PersistentVolume", None, "perennial"]["spec"]["nfs"]
    (data,) = [mount for mount in container["volumeMounts"] if mount["name"] == "data"]
    seen = documents["PersistentVolume", None, "perennial-serving-flights"]["spec"]["nfs"]
    pushed = config.serving_path.relative_to(data["mountPath"])
    assert seen == {**mounted, "path": f"{mounted['path']}/{pushed.parent}", "readOnly": True}
    (serving,) = pods["Deployment", "perennial-serving", "flights"]["spec"]["containers"]
    (models,) = [mount for mount in serving["volumeMounts"] if mount["name"] == "models"]
    assert models["readOnly"]
    assert f"--model_base_path={models['mountPath']}/{pushed.name}" in serving["args"]
    assert f"--model_name={pushed.name}" in serving["args"]


def test_services_lead_to_the_ports_of_their_pods(documents, pods):
    services = [(key, document) for key, document in documents.items() if key[0] == "Service"]
    assert len(services) == 2
    for (_, space, _), service in services:
        (pod,) = [
            pod
            for key, pod in pods.items()
            if key[1] == space and service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_probes_ask_named_ports_that_are_there(pods):
    for key, pod in pods.items():
        (container,) = pod["spec"]["containers"]
        names = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            ask = container.get(probe, {})
            port = (ask.get("httpGet") or ask.get("tcpSocket") or {}).get("port")
            assert port is None or port in names, (key, probe)


def _selects(selector, labels):
    ins = {each["key"]: each["values"] for each in selector.get("matchExpressions", ()) if each["operator"] == "In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(key) in values for key, values in ins.items()
    )


def test_all_are_denied_and_each_rule_is_about_a_pod(documents, pods):
    policies = {key: document["spec"] for key, document in documents.items() if key[0] == "NetworkPolicy"}
    for space in ("perennial", "perennial-serving"):
        assert policies["NetworkPolicy", space, "deny-all"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }
    for (_, space, name), spec in policies.items():
        labels = [pod["metadata"]["labels"] for key, pod in pods.items() if key[1] == space]
        # In `kubeflow` it is KFP's pods that are meant.
        assert space == "kubeflow" or any(_selects(spec["podSelector"], each) for each in labels), name


@pytest.mark.parametrize(
    ("who", "port"), [("watch", 3306), ("watch-once", 3306)], ids=["daemon-database", "job-database"]
)
def test_workers_reach_the_database(documents, pods, who, port):
    """Both ends must allow a connection: the one that opens it, and the one that takes it."""
    labels = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["labels"] for pod in pods.values()
    }
    egress = documents["NetworkPolicy", "perennial", "watch"]["spec"]
    ingress = documents["NetworkPolicy", "perennial", "database"]["spec"]
    assert _selects(egress["podSelector"], labels[who])
    assert _selects(ingress["podSelector"], labels["database"])
    out = [
        rule
        for rule in egress["egress"]
        if any(_selects(to.get("podSelector", {}), labels["database"]) for to in rule["to"])
    ]
    assert [each["port"] for rule in out for each in rule["ports"]] == [port]
    (rule,) = ingress["ingress"]
    assert any(_selects(each["podSelector"], labels[who]) for each in rule["from"])
    assert [each["port"] for each in rule["ports"]] == [port]


def test_quotas_admit_what_is_deployed_at_its_largest(documents, pods):
    scaler = documents["HorizontalPodAutoscaler", "perennial-serving", "flights"]["spec"]
    needs = {"perennial": [], "perennial-serving": []}
    for (kind, space, name), pod in pods.items():
        deployed = documents[kind, space, name]["spec"]
        # One more than `maxReplicas` while an update replaces them.
        count = scaler["maxReplicas"] + 1 if space == "perennial-serving" else deployed.get("replicas", 1)
        needs[space] += count * [pod["spec"]["containers"][0]["resources"]]
    for space, resources in needs.items():
        hard = documents["ResourceQuota", space, space]["spec"]["hard"]
        largest = _amount(documents["LimitRange", space, space]["spec"]["limits"][0]["max"]["memory"])
        assert len(resources) <= int(hard["pods"])
        for name in ("requests.cpu", "requests.memory", "limits.memory"):
            group, _, resource = name.partition(".")
            assert sum(_amount(each[group][resource]) for each in resources) <= _amount(hard[name]), (space, name)
        assert all(_amount(each["limits"]["memory"]) <= largest for each in resources)
        assert hard["services.loadbalancers"] == "0"


def test_serving_is_scaled_by_the_scaler_and_never_gone(documents):
    deployment = documents["Deployment", "perennial-serving", "flights"]["spec"]
    scaler = documents["HorizontalPodAutoscaler", "perennial-serving", "flights"]["spec"]
    budget = documents["PodDisruptionBudget", "perennial-serving", "flights"]["spec"]
    assert "replicas" not in deployment
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "flights"}
    assert budget["selector"] == deployment["selector"]
    assert budget["minAvailable"] < scaler["minReplicas"] < scaler["maxReplicas"]


def test_training_yields_to_serving_and_keeps_off_its_nodes(documents, pods):
    priority = {key[2]: document["value"] for key, document in documents.items() if key[0] == "PriorityClass"}
    assert priority["perennial-training"] < 0 < priority["perennial-serving"]
    spec = pods["Deployment", "perennial-serving", "flights"]["spec"]
    node = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert node["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "perennial/pool", "operator": "NotIn", "values": ["training", "gpu"]}]}
    ]


def test_the_pool_with_gpus_is_named_the_same_everywhere(documents):
    pool = documents["NodePool", None, "perennial-gpu"]["spec"]["template"]
    runtime = documents["RuntimeClass", None, "perennial-gpu"]["scheduling"]
    assert pool["metadata"]["labels"] == runtime["nodeSelector"] == {"perennial/pool": "gpu"}
    (taint,) = pool["spec"]["taints"]
    (toleration,) = runtime["tolerations"]
    assert (taint["key"], taint["effect"]) == (toleration["key"], toleration["effect"])


def _snippets():
    """Return the trees that comments tell to put under `kubeflow`."""
    gpu = Path("deploy/kubernetes/gpu.yaml").read_text()
    lines = re.search(r"#   kubeflow:\n((?:#     .*\n)+)", gpu)[0]
    return yaml.safe_load(re.sub(r"^#   ", "", lines, flags=re.MULTILINE))


def test_the_config_for_kubeflow_loads_and_means_the_same_places(tmp_path, documents, pods):
    path = tmp_path / "flights.yaml"
    path.write_text(Path("conf/flights.yaml").read_text() + Path("deploy/kubeflow/config.yaml").read_text())
    config = load_config(path)
    options = config.kubeflow
    assert config.runner == "kubeflow"
    assert options.image == IMAGE
    assert ("ServiceAccount", options.namespace, options.service_account) in documents
    assert ("PersistentVolumeClaim", options.namespace, options.volume.claim) in documents
    assert set(options.secrets) == {config.ledger.removeprefix("env:"), config.metadata.removeprefix("env:")}
    args = pods["Deployment", "perennial", "perennial-watch-flights"]["spec"]["containers"][0]["args"]
    assert f"--set=root={options.volume.mount}/{config.name}" in args
    paths = [documents["PersistentVolume", None, name]["spec"]["nfs"] for name in ("perennial", "perennial-kubeflow")]
    assert paths[0] == paths[1]


def test_the_snippet_for_gpus_loads(tmp_path, documents):
    path = tmp_path / "flights.yaml"
    path.write_text(Path("conf/flights.yaml").read_text() + yaml.safe_dump(_snippets()))
    trainer = load_config(path).kubeflow.nodes["Trainer"]
    assert trainer.node_selector == documents["RuntimeClass", None, "perennial-gpu"]["scheduling"]["nodeSelector"]
    assert f"requests.{trainer.accelerator}" in documents["ResourceQuota", "kubeflow", "perennial-runs"]["spec"]["hard"]
