"""`perennial trigger`: ask the daemon for a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from cli.options import config_options, json_option
from schemas.training import Initialisation

if TYPE_CHECKING:
    from schemas.ledger_records import Lease, TriggerRequest


@click.command(short_help="Ask the daemon for a run.")
@config_options
@json_option
@click.option("--span", type=click.IntRange(min=0), help="Run this span; default: the next one that waits.")
@click.option(
    "--initialisation", type=click.Choice(get_args(Initialisation)), help="How to start; default: the config's."
)
def trigger(
    config_path: Path, overrides: tuple[str, ...], as_json: bool, span: int | None, initialisation: str | None
) -> None:
    r"""Write down that somebody wants a run. `perennial watch` takes it up when it looks next, within `poll_seconds`.

    It waits for a running cycle, but neither for the minimum interval nor for the daily budget. A span that was
    trained on is refused, with the reason in the daemon's log: nothing is trained on twice.

    \b
    Example:
      perennial trigger
      perennial trigger --span 12 --initialisation cold
      perennial trigger --json | jq .worker
    """
    from ledger.holders import is_dead
    from ledger.ledger import Ledger
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    with Ledger.open(config.ledger_url, config.name) as ledger:
        request = ledger.request_run(span, initialisation)
        lease = ledger.lease()
    if lease is not None and (lease.holder is None or is_dead(lease.holder)):
        lease = None
    if as_json:
        worker = lease.holder if lease else None
        click.echo(json.dumps({"request": request.model_dump(mode="json"), "worker": worker}, indent=1))
    else:
        click.echo(_sentence(request, lease))


def _sentence(request: "TriggerRequest", lease: "Lease | None") -> str:
    what = "the next span" if request.span is None else f"span {request.span}"
    asked = f"Request {request.id} asks for {what}."
    if lease is None:
        return f"{asked} No worker holds the pipeline: the request waits until somebody runs `perennial watch`."
    seen = "" if lease.heartbeat_at is None else f", last heard of at {lease.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC,"
    return f"{asked} Worker {lease.holder}{seen} holds the pipeline."
