"""`perennial kubeflow schedule`: let the cluster plan and run what is due, by the clock."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import config_options, json_option
from core.errors import ConfigError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.kubeflow.kfp_schedules import KfpSchedules, Schedule

NUM_NEXT_TIMES = 3


@click.command(short_help="Let the cluster plan and run what is due, by a cron expression.")
@config_options
@json_option
@click.option("--cron", "expression", metavar="CRON", help="Five fields, e.g. '0 3 * * 1' for Mondays at 03:00.")
@click.option("--remove", "is_removed", is_flag=True, help="Delete the schedule; runs that have begun go on.")
def schedule(
    config_path: Path, overrides: tuple[str, ...], as_json: bool, expression: str | None, is_removed: bool
) -> None:
    r"""Make the pipeline's one recurring run, which plans in the cluster; without options, show it.

    Each time it runs what `perennial run --next` finds due, one run at a time; times that were missed are not made up
    for, since what waits is found in the ledger. A schedule with another time or config takes the place of the old
    one; none is ever enabled again, because Kubeflow Pipelines would then fire for every time it missed.

    \b
    Example:
      perennial kubeflow schedule --cron '0 3 * * 1'
      perennial kubeflow schedule
      perennial kubeflow schedule --remove
    """
    from pipeline.config import load_config
    from pipeline.kubeflow.kfp_cluster import KfpCluster
    from pipeline.kubeflow.kfp_schedules import KfpSchedules

    if expression is not None and is_removed:
        raise ConfigError("Nobody can make a schedule and remove it. Expected --cron or --remove. Leave one out.")
    config = load_config(config_path, overrides)
    schedules = KfpSchedules(KfpCluster(config.kubeflow, config.name), f"{config.name}-next")
    if is_removed:
        num_removed = schedules.remove()
        click.echo(json.dumps([]) if as_json else f"Removed {num_removed} schedule(s).")
        return
    found = schedules.all() if expression is None else (_replace(config, schedules, expression),)
    if as_json:
        click.echo(json.dumps([schedule.model_dump(mode="json") for schedule in found], indent=1))
    else:
        click.echo("\n".join(map(_sentences, found)) or "There is no schedule. Make one with --cron '0 3 * * 1'.")


def _replace(config: "Config", schedules: "KfpSchedules", expression: str) -> "Schedule":
    from pipeline.kubeflow.cron import six_fields
    from pipeline.kubeflow.package import compile_controller_package

    cron = six_fields(expression)
    quiet_libraries()
    return schedules.replace(compile_controller_package(config), cron)


def _sentences(schedule: "Schedule") -> str:
    from pipeline.kubeflow.cron import next_times

    expression = schedule.cron.partition(" ")[2]
    if not schedule.is_enabled:
        return f"{expression}: disabled. Make it anew with --cron; enabling it would fire for every missed time."
    times = ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in next_times(expression, datetime.now(UTC), NUM_NEXT_TIMES))
    return (
        f"{expression}: next at {times} UTC. Kubeflow Pipelines reads it in UTC, unless its variable "
        "CRON_SCHEDULE_TIMEZONE says otherwise."
    )
