"""`perennial kubeflow run-local`: a compiled package on this machine, task by task, as a cluster would run it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.console import make_console
from cli.options import json_option
from cli.progress import stop_on_sigterm
from core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.kubeflow.cluster import TaskRun

_COLOURS = {"succeeded": "green", "failed": "red", "skipped": "yellow"}


@click.command("run-local", short_help="Run a compiled package here, task by task, as a cluster would.")
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--param", "texts", multiple=True, metavar="NAME=VALUE", help="Value of a parameter; may be repeated.")
@click.option("--param-file", type=click.Path(path_type=Path), help="JSON object of values; --param wins over it.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the run; default: var/run-local/RUN_ID.")
@click.option(
    "--pipeline-root",
    default="",
    metavar="URI",
    help="Where artifacts lie: minio://, s3:// or gs://, played by a folder below --root, or a folder. Default: as "
    "the package says, or KFP's.",
)
@click.option("--parallel", type=click.IntRange(min=1), default=2, show_default=True, help="Tasks at a time.")
@click.option("--skip", multiple=True, metavar="TASK", help="Leave a task out, and what needs it; may be repeated.")
@click.option("--only", metavar="TASK", help="Run one task alone, from what an earlier call left in --root.")
@json_option
def run_local(
    package: Path,
    texts: tuple[str, ...],
    param_file: Path | None,
    root: Path | None,
    pipeline_root: str,
    parallel: int,
    skip: tuple[str, ...],
    only: str | None,
    as_json: bool,
) -> None:
    r"""Run the package PACKAGE task by task, each in a process with exactly its container's command.

    Inputs, conditions, copies to and from the object store and retries are those of Kubeflow Pipelines, so what fails
    there fails here, with its log at hand. The same command goes on where it stopped.

    \b
    Example:
      perennial kubeflow run-local cold.yaml --param-file values.json --root var/debug
    """
    import threading

    from pipeline.kubeflow.local_run import LocalOptions, run_package
    from pipeline.kubeflow.package_spec import read_package
    from pipeline.kubeflow.runtime_parameters import parse_parameters

    text = _read(package, "package")
    definitions = read_package(text).parameters
    values = _values_in(param_file) | parse_parameters(definitions, dict(map(_pair, texts)))
    run_name = str(values.get("run_id", package.stem))
    folder = root or Path("var/run-local") / run_name
    stop = threading.Event()
    stop_on_sigterm(stop)
    with _TaskProgress(make_console(stderr=True)) as progress:
        run = run_package(
            text,
            parameters=values,
            root=folder,
            run_name=run_name,
            pipeline_root=pipeline_root,
            options=LocalOptions(max_parallel=parallel, skip=skip, only=only),
            on_task=progress.on_task,
            stop=stop,
        )
    if as_json:
        click.echo(json.dumps(run.model_dump(mode="json"), indent=1))
    else:
        click.echo(f"{run.state}: {run.name}, every task in a folder below {folder / 'tasks'}")


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The {what} cannot be read: {error}. Expected a text file; received {str(path)!r}. Correct the path."
        ) from error


def _values_in(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = json.loads(_read(path, "parameter file"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}. Expected an object of values by name.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no object. Expected values by name; received {values!r:.80}.")
    return values


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise ConfigError(f"Parameter {text!r} is malformed. Expected NAME=VALUE, e.g. --param span=8.")
    return name, value


class _TaskProgress:
    """What a person watches: a line for each task that is over, and those that run."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("starting")
        self._running: dict[str, float] = {}

    def __enter__(self) -> "_TaskProgress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def on_task(self, task: "TaskRun") -> None:
        """Say what became of a task, and what runs."""
        if task.state == "running":
            self._running[task.node_id] = time.monotonic()
        else:
            begun = self._running.pop(task.node_id, None)
            seconds = "       " if begun is None else f"{time.monotonic() - begun:5.1f} s"
            word = "stopped" if task.state == "pending" else task.state
            self._console.print(f"{seconds}  [{_COLOURS.get(task.state, 'default')}]{word:<9}[/]  {task.node_id}")
        self._status.update(", ".join(self._running) or "waiting")
