"""The entry point: the group of commands and the error boundary around them."""

import os
import sys

import click

from cli.backfill import backfill
from cli.ingest import ingest
from cli.kubeflow import kubeflow
from cli.lineage import lineage
from cli.model import model
from cli.predict import predict
from cli.run import run
from cli.status import status
from cli.trigger import trigger
from cli.watch import watch
from core.errors import PipelineError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Print the traceback of a failure.")
def perennial(debug: bool) -> None:
    r"""Continuous training on TFX: data arrives in spans, and the model that serves never gets worse.

    \b
    Example:
      perennial ingest                      # real flights of 2013 as weekly spans
      perennial run --spans 8..14           # a cold start on 8 weeks, then 6 warm cycles
      perennial status                      # what became of each span
      perennial lineage model champion      # where the champion came from
      perennial model rollback              # the champion before it serves again
    """


for command in (ingest, run, backfill, status, lineage, predict, model, watch, trigger, kubeflow):
    perennial.add_command(command)


def _keep_examples_as_written(command: click.Command) -> None:
    """Turn the two characters of a raw docstring into the one by which click keeps a paragraph as it is written."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for child in getattr(command, "commands", {}).values():
        _keep_examples_as_written(child)


_keep_examples_as_written(perennial)


def main() -> None:
    """Run the command line; a failure prints headline and sentence, and exits with its class's code."""
    is_debugging = "--debug" in sys.argv
    # A user's own functions may lie in the working directory, where relative paths of a config start too. Last, so that
    # nothing there hides a package.
    sys.path.append(os.getcwd())
    try:
        perennial()
    except PipelineError as error:
        if is_debugging:
            raise
        click.echo(f"{error.headline}: {error}", err=True)
        if error.retryable:
            click.echo("This may pass: run the same command again.", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
