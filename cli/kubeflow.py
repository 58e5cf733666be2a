"""`perennial kubeflow`: the same pipeline on a cluster. One module a command, `cli/kubeflow_*.py`."""

import click

from cli.kubeflow_cancel import cancel
from cli.kubeflow_compile import compile_packages
from cli.kubeflow_run_local import run_local
from cli.kubeflow_schedule import schedule
from cli.kubeflow_status import status
from cli.kubeflow_submit import submit


@click.group(short_help="Compile for Kubeflow Pipelines, run there, follow, schedule.")
def kubeflow() -> None:
    """Compile the pipeline for Kubeflow Pipelines, run it there or as it would run there, follow and schedule it."""


for command in (compile_packages, run_local, submit, schedule, status, cancel):
    kubeflow.add_command(command)
