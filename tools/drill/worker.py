"""What runs in the processes that are killed: `perennial run --next`, told apart point by point.

Imports are local: the drill itself loads no TensorFlow, and the fork server has loaded it already (`preload.py`).
"""

import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import click

from core.clock import SystemClock
from core.errors import PipelineError
from tools.drill.points import Reporter


class ShiftedClock(SystemClock):
    """The machine's clock with a wall time that the drill moves, as an administrator or a broken clock does."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def now(self) -> datetime:
        """Return the shifted wall time in UTC."""
        return super().now() + timedelta(seconds=self._reporter.shift_seconds)


def run_next(config_file: Path, channel: Connection, log_file: Path, shift_seconds: float) -> None:
    """Do what `perennial run --next` does, and tell of every point on the way; ends with the command's exit code.

    Args:
        config_file: The pipeline's config.
        channel: Where points are told, and answered.
        log_file: What the command prints goes here.
        shift_seconds: How far the wall clock is off from the start.
    """
    _print_to(log_file)
    reporter = Reporter(channel)
    reporter.shift_seconds = shift_seconds
    reporter.observe_nodes()
    reporter.observe_trainer()
    _exit_as_the_command_does(lambda: _run_next(config_file, reporter))


def _run_next(config_file: Path, reporter: Reporter) -> None:
    from ledger.ledger import Ledger
    from pipeline.config import load_config
    from pipeline.controller import Controller
    from pipeline.cycle import Listeners
    from pipeline.leadership import leading

    config = load_config(config_file, ())
    clock = ShiftedClock(reporter)
    listeners = Listeners(plan=reporter.begin, step=lambda name: reporter.tell("step", name))
    with (
        Ledger.open(config.ledger_url, config.name, clock=clock) as ledger,
        leading(ledger, config.worker.lease_ttl_seconds, stop=listeners.stop),
    ):
        result = Controller(config, ledger, listeners=listeners, clock=clock).run_next()
    click.echo(result.model_dump_json())


def run_command(arguments: list[str], log_file: Path) -> None:
    """Run a command of `perennial` as a user does; ends with its exit code."""
    from cli.main import perennial

    _print_to(log_file)
    _exit_as_the_command_does(lambda: perennial(arguments, standalone_mode=False))


def ingest_spans(config_file: Path, spans: range) -> None:
    """Ingest real flights into the pipeline's spans folder."""
    from ingest.ingestion import ingest
    from pipeline.config import load_config
    from schemas.loader import load_schema

    config = load_config(config_file, ())
    ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=spans)


def _exit_as_the_command_does(act: Callable[[], object]) -> None:
    try:
        act()
    except PipelineError as error:
        click.echo(f"{error.headline}: {error}", err=True)
        sys.exit(error.exit_code)


def _print_to(log_file: Path) -> None:
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
