import subprocess
import sys

import yaml

from core.errors import DataError
from pipeline.kubeflow.package import compile_controller_package


def test_controller_runs_what_its_package_says_as_the_command_does(make_config, tmp_path):
    package = compile_controller_package(make_config(f"root={tmp_path}"))
    (executor,) = next(yaml.safe_load_all(package.text))["deploymentSpec"]["executors"].values()
    command = [*executor["container"]["command"], *executor["container"]["args"]]
    assert command[0] == "python"
    # It gets as far as looking for a span to run.
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert done.returncode == DataError.exit_code, done.stderr
    assert f"Pipeline 'flights' has no spans. Expected some below '{tmp_path}/spans'" in done.stderr


def test_controller_without_a_config_says_so():
    done = subprocess.run([sys.executable, "-m", "cli.kubeflow_controller"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--config" in done.stderr
