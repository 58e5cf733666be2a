"""`python -m benchmarks cycle`: one warm cycle of ours against one of stock TFX, on the same span, in one process."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks.report import machine, print_json, write_section
from benchmarks.vanilla import vanilla_pipeline
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from ledger.ledger import Ledger
from pipeline.config import load_config
from pipeline.controller import Controller
from pipeline.quiet import quiet_libraries
from pipeline.runners import run_pipeline
from pipeline.tfx_dag import TfxDag
from schemas.loader import load_schema
from schemas.spans import span_folder

FIRST_SPAN = 8
NUM_PAIRS = 3


class Nobody:
    """Watches a DAG and does nothing."""

    def check(self, node_id: str) -> None:
        """Go on."""

    def node_started(self, node_id: str) -> None:
        """Ignore it."""

    def node_finished(self, node_id: str) -> None:
        """Ignore it."""

    def fenced(self) -> AbstractContextManager[None]:
        """Fence nothing."""
        return nullcontext()


def main() -> None:
    """Measure, and write the section of `docs/benchmarks.md`."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = load_config(Path("conf/flights.yaml"), (f"root={root / 'ours'}", "window.cold_spans=1"))
        schema = load_schema(Path(config.schema_file))
        spans = range(FIRST_SPAN, FIRST_SPAN + 2 + NUM_PAIRS)
        ingest(config.ingest_options, config.spans_path, schema=schema, spans=spans)
        with Ledger.open(config.ledger_url, config.name) as ledger:
            controller = Controller(config, ledger, dag=TfxDag(config, "local"))

            def ours(span: int) -> None:
                controller.run_span(span)

            def vanilla(span: int) -> None:
                place = root / f"vanilla-{span}"
                place.mkdir()
                pipeline = vanilla_pipeline(config, span_folder(config.spans_path, span, 1), place)
                run_pipeline(pipeline, f"vanilla-{span}", span=span, runner="local", observer=Nobody())

            # The first cycle of each pays for lazy imports; it makes the champion and is not counted.
            ours(spans[0])
            ours(spans[1])
            vanilla(spans[1])
            pairs = [(_seconds(ours, span), _seconds(vanilla, span)) for span in spans[2:]]
        num_examples = [read_manifest(config.spans_path, span, 1).num_examples for span in spans[2:]]
    _write(pairs, num_examples)


def _seconds(run: Callable[[int], None], span: int) -> float:
    start = time.perf_counter()
    run(span)
    return time.perf_counter() - start


def _write(pairs: list[tuple[float, float]], num_examples: list[int]) -> None:
    ratio = statistics.median(vanilla / ours for ours, vanilla in pairs)
    rows = [
        f"| {count:,} | {ours:.1f} | {vanilla:.1f} | {vanilla / ours:.2f} |"
        for count, (ours, vanilla) in zip(num_examples, pairs, strict=True)
    ]
    write_section(
        "A cycle",
        (
            "Written by `python -m benchmarks cycle`. One warm cycle of ours (champion scored and compared, frozen",
            "transform graph; the last span is one at which the graph is refreshed, over eight spans) and one",
            "of stock TFX components (analysis, no champion to compare with), each on the same weekly span,",
            "alternately in one process after a first, uncounted cycle of both; the same model, epochs, schema and",
            f"gate. {machine()}.",
            "",
            "| examples in the span | ours, seconds | stock TFX, seconds | stock / ours |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Median ratio: stock TFX takes **{ratio:.2f} times** as long.",
        ),
    )
    print_json("cycle", stock_over_ours=round(ratio, 3), seconds=[[round(s, 2) for s in pair] for pair in pairs])


if __name__ == "__main__":
    main()
