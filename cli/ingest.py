"""`perennial ingest`: records in, spans out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import make_console
from cli.options import config_options, json_option
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from ingest.report import IngestReport


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
    from rich.progress import Progress

    from cli.spans import parse_span_range
    from ingest.ingestion import ingest as ingest_spans
    from ingest.manifests import list_spans
    from ledger.ledger import Ledger
    from pipeline.arrivals import span_arrival
    from pipeline.config import load_config
    from schemas.loader import load_schema

    config = load_config(config_path, overrides)
    quiet_libraries()
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading the source", total=None)
        report = ingest_spans(
            config.ingest_options,
            config.spans_path,
            schema=load_schema(Path(config.schema_file)),
            spans=parse_span_range(span_range) if span_range else None,
            on_progress=lambda done, total, said: progress.update(bar, completed=done, total=total, description=said),
        )
    with Ledger.open(config.ledger_url, config.name) as ledger:
        ledger.register_spans(span_arrival(manifest) for manifest in list_spans(config.spans_path).manifests)
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), indent=1))
    else:
        _print(report, config.spans_path)


def _print(report: "IngestReport", folder: Path) -> None:
    num_examples = ", ".join(f"{count:,} {split}" for split, count in sorted(report.num_examples.items(), reverse=True))
    click.echo(
        f"{report.num_records:,} records read: {len(report.written)} spans written, {len(report.unchanged)} unchanged "
        f"({num_examples} examples) in {folder}"
    )
    for reason, count in report.excluded.items():
        click.echo(f"  left out: {count:,} ({reason})")
    for span, count in report.held_back.items():
        click.echo(f"  held back: {count:,} of span {span}, which the source does not complete")
    for span, reason in report.skipped.items():
        click.echo(f"  skipped: span {span}, {reason}")
