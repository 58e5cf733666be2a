"""`python -m tools.flink`: fetch what Beam needs for Flink, and start, look at or stop a small cluster here."""

import sys
from pathlib import Path

import click

from core.errors import PipelineError
from pipeline.flink import cache_folder, check_cluster
from tools.flink.cluster import Cluster
from tools.flink.fetch import fetch_flink, fetch_job_server


@click.group()
@click.option("--folder", type=click.Path(path_type=Path), help="Of the cluster's settings and logs.")
@click.option("--rest-port", default=8081, show_default=True)
@click.option("--pool-port", default=50000, show_default=True, help="Of the Python worker pool.")
@click.option("--task-managers", default=2, show_default=True, type=click.IntRange(min=1))
@click.pass_context
def main(context: click.Context, folder: Path | None, rest_port: int, pool_port: int, task_managers: int) -> None:
    """Beam on Flink, on this machine."""
    context.obj = Cluster(folder or cache_folder() / "cluster", rest_port, pool_port, task_managers)


@main.command()
def fetch() -> None:
    """Fetch Flink and Beam's job server for it."""
    click.echo(f"Flink: {fetch_flink()}")
    click.echo(f"Beam's job server: {fetch_job_server()}")


@main.command()
@click.pass_obj
def start(cluster: Cluster) -> None:
    """Start a job manager, task managers and a pool of Python workers."""
    cluster.start(fetch_flink())
    click.echo("Started. In the config:\nbeam:")
    for name, value in cluster.options.model_dump(exclude_defaults=True).items():
        click.echo(f"  {name}: {value}")


@main.command()
@click.pass_obj
def status(cluster: Cluster) -> None:
    """Say whether the cluster answers and has all its slots."""
    check_cluster(cluster.options)
    click.echo(f"Flink answers at {cluster.options.flink_master} with {cluster.options.num_workers} slots.")


@main.command()
@click.pass_obj
def stop(cluster: Cluster) -> None:
    """End its processes."""
    click.echo(f"Ended {cluster.stop()} processes.")


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except PipelineError as error:
        click.echo(f"{error.headline}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
