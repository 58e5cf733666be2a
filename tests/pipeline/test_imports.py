"""What a process does not load. The seconds are in docs/benchmarks.md; here it is only who brings what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# All that a warm cycle in this process imports before and in its nodes.
CYCLE = (
    "cli.run",
    "pipeline.controller",
    "pipeline.graph",
    "pipeline.runners",
    "records.reading",
    "serving.prediction",
    "trainer.run_fn",
    "transform.preprocessing",
)
# All that the daemon imports.
DAEMON = (
    "cli.watch",
    "pipeline.controller",
    "pipeline.daemon",
    "pipeline.dags",
    "pipeline.waker",
    "pipeline.worker_dag",
)
STATUS = ("cli.main", "cli.status", "pipeline.overview")
HEAVY = ("tfx.v1", "google.cloud.aiplatform", "google.cloud.bigquery", "kfp", "kubernetes", "nltk", "apache_beam")
PACKAGES = ("tensorflow_model_analysis.api", "tensorflow_data_validation.api", "matplotlib.figure")


def _loaded(modules, unwanted):
    """Return which unwanted modules a new Python has after it has imported others."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {unwanted!r} if name in sys.modules]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    return json.loads(printed.splitlines()[-1])


@pytest.mark.slow
def test_a_warm_cycle_imports_neither_beam_nor_tfxs_public_face():
    assert _loaded(CYCLE, HEAVY + PACKAGES) == []


@pytest.mark.parametrize("modules", [DAEMON, STATUS], ids=["daemon", "status"])
def test_who_runs_no_node_imports_no_tensorflow(modules):
    assert _loaded(modules, ("tensorflow", "keras", "tfx", *HEAVY)) == []
