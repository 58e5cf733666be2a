"""`perennial ingest`: records in, spans out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import config_options, json_option

if TYPE_CHECKING:
    from ingest.ingestion import IngestReport


@click.command(short_help="Turn source records into spans.")
@config_options
@json_option
@click.option("--spans", "span_range", metavar="A..B", help="Only these spans; default: all that are complete.")
def ingest(config_path: Path, overrides: tuple[str, ...], as_json: bool, span_range: str | None) -> None:
    r"""Read the config's source and write every complete span that is not there yet, or has changed.

    Ingesting again is safe: a span with the same content is left as it is, a corrected one gets the next version.

    \b
    Example:
      perennial ingest --config conf/flights.yaml --spans 1..14
    """
    from rich.console import Console

    from cli.spans import parse_span_range
    from ingest.ingestion import ingest as ingest_spans
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    console = Console(stderr=True)
    with console.status("reading the source") as line:
        report = ingest_spans(
            config.ingest,
            config.spans_path,
            schema_file=Path(config.schema_file),
            label=config.label.name,
            spans=parse_span_range(span_range) if span_range else None,
            on_progress=line.update,
        )
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=1))
    else:
        _print(report, config.spans_path)


def _print(report: "IngestReport", folder: Path) -> None:
    click.echo(
        f"{report.num_records:,} records read; {len(report.written)} spans written, {len(report.unchanged)} unchanged, "
        f"in {folder}"
    )
    for reason, count in sorted(report.excluded.items()):
        click.echo(f"  left out: {count:,} ({reason})")
    if report.num_held_back:
        click.echo(f"  held back: {report.num_held_back:,} of a span that the source does not complete")
