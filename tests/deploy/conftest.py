"""The manifests as documents, and the Go programs that judge them, built once into a cache folder."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools import kubernetes_schemas

FOLDERS = (Path("deploy/kubernetes"), Path("deploy/kubeflow"))
# No manifests by themselves: kustomize's own, a patch, and what is appended to a pipeline's config.
OTHERS = {"kustomization.yaml", "deploy/kubeflow/watch.yaml", "deploy/kubeflow/config.yaml"}
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
# Their OpenAPI documents are in the modules of their sources.
KUBERNETES = "k8s.io/kubernetes@v1.34.1"
KARPENTER = "sigs.k8s.io/karpenter@v1.8.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perennial" / "go"


@pytest.fixture(scope="session")
def manifest_files():
    files = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))]
    return [path for path in files if not {path.name, str(path)} & OTHERS]


@pytest.fixture(scope="session")
def documents(manifest_files):
    """Every object that the manifests make, CronJob and NodePool included, by (kind, namespace, name)."""
    found = {}
    for path in manifest_files:
        for document in yaml.safe_load_all(path.read_text()):
            metadata = document["metadata"]
            key = (document["kind"], metadata.get("namespace"), metadata["name"])
            assert key not in found, f"{key} is in two manifests"
            found[key] = document
    return found


@pytest.fixture(scope="session")
def pods(documents):
    """The pod templates, by the key of what makes them; each with the namespace it runs in."""
    found = {}
    for key, document in documents.items():
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if key[0] in ("CronJob", "Deployment", "StatefulSet"):
            found[key] = template
    return found


def _go(*words):
    """Run Go, or skip with the reason why it can't."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: manifests were not judged by kubeconform and kustomize")
    CACHE.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "GOBIN": str(CACHE), "GOFLAGS": "-mod=mod"}
    done = subprocess.run(["go", *words], cwd=CACHE, env=environ, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        pytest.skip(f"Go could not fetch {words[-1]}: manifests were not judged by it ({' '.join(last):.200})")
    return done.stdout


def _program(module):
    name = module.partition("@")[0].removesuffix("/v5").rpartition("/")[2]
    built = CACHE / f"{name}-{module.rpartition('@')[2]}"
    if not built.exists():
        _go("install", module)
        (CACHE / name).replace(built)
    return built


@pytest.fixture(scope="session")
def kubeconform():
    return _program(KUBECONFORM)


@pytest.fixture(scope="session")
def kustomize():
    """The command that builds a folder: kubectl has it in, and spares a minute of compiling."""
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else [str(_program(KUSTOMIZE)), "build"]


@pytest.fixture(scope="session")
def schemas():
    """Folder of JSON schemas, strict, made from the official OpenAPI document and Karpenter's definitions."""
    maker = Path(kubernetes_schemas.__file__).read_bytes()
    digest = hashlib.sha256(maker + KUBERNETES.encode() + KARPENTER.encode()).hexdigest()[:12]
    folder = CACHE / f"schemas-{digest}"
    if not folder.exists():
        sources = [Path(json.loads(_go("mod", "download", "-json", name))["Dir"]) for name in (KUBERNETES, KARPENTER)]
        partial = folder.with_suffix(f".{os.getpid()}")
        partial.mkdir()
        openapi = json.loads((sources[0] / "api/openapi-spec/swagger.json").read_text())
        kubernetes_schemas.write_schemas(openapi, partial)
        nodepools = yaml.safe_load((sources[1] / "pkg/apis/crds/karpenter.sh_nodepools.yaml").read_text())
        kubernetes_schemas.write_custom_schema(nodepools, partial)
        # Another process may have been first; a folder that is there is whole.
        try:
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial)
    return folder
