"""The options that commands share: `--config`, `--set`, `--json` and `--runner`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("conf/flights.yaml")
# As `RunnerName` in `pipeline.config`, which is a quarter of a second away from every command.
RUNNERS = ("local", "beam", "kubeflow", "kubeflow-local")

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """Add `--config` and `--set`; the command receives `config_path` and `overrides` for `load_config`."""
    override = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a config value; may be repeated."
    )
    config = click.option(
        "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True,
        help="Config file of the pipeline.",
    )  # fmt: skip
    return config(override(command))


def json_option(command: Command) -> Command:
    """Add `--json`; the command receives `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON document, for scripts.")(command)


def runner_option(command: Command) -> Command:
    """Add `--runner`; the command receives `runner`, or None for the config's."""
    return click.option("--runner", type=click.Choice(RUNNERS), help="What runs the DAG; default: the config's.")(
        command
    )
