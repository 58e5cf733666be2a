import json
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from pipeline.kubeflow.package import Package, compile_controller_package, compile_package
from pipeline.shape import typical_shape

# TFDV's options have a key for everything, and other keys in each release: here stands the one that we set.
STATISTICS_OPTION = "num_rank_histogram_buckets"


@pytest.fixture(scope="module")
def config():
    tree = yaml.safe_load(Path("tests/kubeflow/cluster.yaml").read_text())
    return load_config(
        Path("conf/flights.yaml"), tuple(f"{key}={yaml.safe_dump(value)}" for key, value in tree.items())
    )


@pytest.mark.parametrize("shape", ["cold", "warm", "controller"])
def test_package_is_the_reviewed_one_on_both_stacks(shape, config, check_golden):
    package = (
        compile_controller_package(config)
        if shape == "controller"
        else compile_package(config, typical_shape(config, shape))
    )
    check_golden(f"kubeflow-{shape}.yaml", _normalised(package))


def _normalised(package: Package) -> str:
    """Return the package as both stacks make it, without the whole config, which has a golden file of its own."""
    spec, platform = yaml.safe_load_all(package.text)
    if "sdkVersion" in spec:
        spec["sdkVersion"] = "tfx-VERSION"
    for task in spec["root"]["dag"]["tasks"].values():
        options = task.get("inputs", {}).get("parameters", {}).get("stats_options_json")
        if options is not None:
            text = options["runtimeValue"]["constant"]
            options["runtimeValue"]["constant"] = {STATISTICS_OPTION: json.loads(text)[STATISTICS_OPTION]}
    for executor in spec["deploymentSpec"]["executors"].values():
        arguments = executor.get("container", {}).get("args", [])
        if "--config" in arguments:
            position = arguments.index("--config") + 1
            arguments[position] = f"JSON with {', '.join(json.loads(arguments[position]))}"
    return yaml.safe_dump_all([spec, platform], allow_unicode=True, width=120)
