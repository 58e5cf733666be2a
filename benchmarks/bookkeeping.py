"""`python -m benchmarks bookkeeping`: what of a warm cycle's time is spent outside of the DAG's nodes, and on what."""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.report import machine, print_json, write_section
from ingest.ingestion import ingest
from ledger.ledger import Ledger
from pipeline.config import Config, load_config
from pipeline.controller import Controller
from pipeline.cycle import NodeObserver
from pipeline.decision import Decision
from pipeline.leadership import leading
from pipeline.plan import RunPlan
from pipeline.quiet import quiet_libraries
from pipeline.record import Outcome
from pipeline.tfx_dag import TfxDag
from schemas.loader import load_schema

FIRST_SPAN = 8
NUM_CYCLES = 3
# Of the issue: cycle bookkeeping overhead, as a share of a cycle.
LIMIT_SHARE = 0.01
# Of no model, so that none is scored.
NO_VERSION = -1


class Stopwatch:
    """Adds up seconds by name; what is timed inside of something that is timed counts for the outer one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._depth = 0

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time of the block to a name."""
        self._depth += 1
        started = time.perf_counter()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.seconds[name] += time.perf_counter() - started


class TimedLedger:
    """A ledger whose every call is timed."""

    def __init__(self, ledger: Ledger, watch: Stopwatch) -> None:
        self._ledger = ledger
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ledger, name)
        if not callable(value) or name == "fenced":
            return value

        def timed(*arguments: Any, **named: Any) -> Any:
            with self._watch.timing("ledger"):
                return value(*arguments, **named)

        return timed


class TimedObserver:
    """The cycle's own observer, timed: what it does happens while the DAG runs, and is bookkeeping all the same."""

    def __init__(self, observer: NodeObserver, watch: Stopwatch) -> None:
        self._observer = observer
        self._watch = watch

    def check(self, node_id: str) -> None:
        """Pass it on."""
        with self._watch.timing("node events"):
            self._observer.check(node_id)

    def node_started(self, node_id: str) -> None:
        """Pass it on."""
        with self._watch.timing("node events"):
            self._observer.node_started(node_id)

    def node_finished(self, node_id: str) -> None:
        """Pass it on."""
        with self._watch.timing("node events"):
            self._observer.node_finished(node_id)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Time entry and exit, but not what TFX publishes in between."""
        fence: AbstractContextManager[None] = self._observer.fenced()
        with self._watch.timing("node events"):
            fence.__enter__()
        try:
            yield
        finally:
            with self._watch.timing("node events"):
                fence.__exit__(None, None, None)


class TimedDag(TfxDag):
    """TFX's DAG, with the time of its run and of reading its outcome."""

    def __init__(self, *arguments: Any, watch: Stopwatch) -> None:
        super().__init__(*arguments)
        self.watch = watch
        self.run_seconds = 0.0
        self.scoring_seconds = 0.0

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Run the DAG, and remember how long."""
        started = time.perf_counter()
        super().run(plan, TimedObserver(observer, self.watch))
        self.run_seconds += time.perf_counter() - started

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Read the outcome, once without and once with a score of the first model, which is no bookkeeping."""
        with self.watch.timing("reading the outcome"):
            super().outcome(plan, first_version=NO_VERSION, trained=trained)
        read = time.perf_counter()
        outcome = super().outcome(plan, first_version=first_version, trained=trained)
        # The second reading included, so that it counts nowhere else.
        self.scoring_seconds += time.perf_counter() - read
        return outcome


def main() -> None:
    """Run warm cycles on flights, and write the section."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(Path("conf/flights.yaml"), (f"root={folder}", "window.cold_spans=1"))
        spans = range(FIRST_SPAN, FIRST_SPAN + 2 + NUM_CYCLES)
        ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=spans)
        with Ledger.open(config.ledger_url, config.name) as ledger, leading(ledger, config.worker.lease_ttl_seconds):
            # Lazy imports and the cold start are not counted.
            for span in spans[:2]:
                Controller(config, ledger, dag=TfxDag(config, "local")).run_span(span)
            cycles = [_measure(config, ledger, span) for span in spans[2:]]
    _write(cycles)


def _measure(config: Config, ledger: Ledger, span: int) -> dict[str, float]:
    """Return the seconds of one cycle: all of it, its nodes, and its bookkeeping by kind."""
    watch = Stopwatch()
    dag = TimedDag(config, "local", watch=watch)
    started = time.perf_counter()
    Controller(config, cast("Ledger", TimedLedger(ledger, watch)), dag=dag).run_span(span)
    total = time.perf_counter() - started
    nodes = dag.run_seconds - watch.seconds["node events"]
    rest = total - nodes - dag.scoring_seconds - sum(watch.seconds.values())
    return {"total": total, "nodes": nodes, "scoring": dag.scoring_seconds, **watch.seconds, "all else": rest}


def _write(cycles: list[dict[str, float]]) -> None:
    names = [name for name in cycles[0] if name != "total"]
    median = {name: statistics.median(cycle[name] for cycle in cycles) for name in ("total", *names)}
    share = statistics.median((c["total"] - c["nodes"] - c["scoring"]) / c["total"] for c in cycles)
    write_section(
        "Bookkeeping",
        (
            f"Written by `python -m benchmarks bookkeeping`. Medians of {NUM_CYCLES} warm cycles of flights, ledger",
            f"and ML Metadata on SQLite, on {machine()}. Everything but the DAG, and the score of the first model that",
            "the record quotes, counts as bookkeeping: looking for spans, planning, the ledger, the lease, what is",
            "written between nodes, reading the outcome, decision record, publishing.",
            "",
            "| what | seconds | of the cycle |",
            "|---|---|---|",
            *(f"| {name} | {median[name]:.3f} | {median[name] / median['total']:.2%} |" for name in names),
            "",
            f"Bookkeeping is **{share:.2%}** of a cycle of {median['total']:.1f} s,",
            f"{'within' if share < LIMIT_SHARE else 'beyond'} the bound of {LIMIT_SHARE:.0%}.",
        ),
    )
    print_json("bookkeeping", share=round(share, 5), **{name: round(value, 4) for name, value in median.items()})


if __name__ == "__main__":
    main()
