"""`python -m benchmarks ledger`: planning a cycle with 100,000 spans in the ledger, on every database there is."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

from benchmarks.report import machine, print_json, write_section
from benchmarks.servers import NotInstalledError, mariadb, postgresql, postgresql_url
from ingest.span_writer import write_manifest
from ledger import tables
from ledger.ledger import Ledger
from pipeline.arrivals import Discovery
from pipeline.config import Config, load_config
from pipeline.knowledge import MAX_SCORED_SPANS, read_knowledge
from pipeline.plan import Request, RunPlan, Skip, next_span, plan_run
from schemas.ledger_records import ModelRecord, SpanArrival
from schemas.spans import SPLITS, Manifest, SpanFile, SpanRef
from schemas.training import ModelShape

DATABASES = ("sqlite", "postgresql", "mariadb")
NUM_SPANS = 100_000
NUM_REPEATS = 21
BATCH_ROWS = 5000
# Of the issue: planning with 100,000 spans in the ledger.
LIMIT_SECONDS = 0.05
# Spans whose folders are there; a plan looks at no more.
NUM_FOLDERS = MAX_SCORED_SPANS + 100
# Versions of spans on disk for discovery; one stat each.
NUM_DISCOVERED = 2000
_START = datetime(2013, 1, 1, tzinfo=UTC)


def main(databases: list[str]) -> None:
    """Measure on the databases that are named, or on all that are installed, and write the section."""
    results: dict[str, dict[str, float]] = {}
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(Path("conf/flights.yaml"), (f"root={folder}", "training.replay_ratio=0.5"))
        for span in range(NUM_SPANS - NUM_FOLDERS, NUM_SPANS + 2):
            span_ref(span).folder(config.spans_path).mkdir(parents=True)
        for name in databases or DATABASES:
            with ExitStack() as stack:
                try:
                    url = _database_url(name, Path(folder), stack)
                except NotInstalledError as error:
                    missing.append(f"{name}: {error}")
                    continue
                results[name] = measure(url, config)
                print(name, results[name], file=sys.stderr)
        discovery = measure_discovery(Path(folder) / "discovery")
    _write(results, discovery, missing)
    print_json("ledger", num_spans=NUM_SPANS, missing=missing, discovery=discovery, **results)


def _database_url(name: str, folder: Path, stack: ExitStack) -> str:
    if name == "postgresql":
        return postgresql_url(stack.enter_context(postgresql()), "postgres")
    if name == "mariadb":
        return stack.enter_context(mariadb())
    return f"sqlite:///{folder}/ledger.sqlite"


def measure(url: str, config: Config) -> dict[str, float]:
    """Fill a ledger and return medians in seconds: of planning, of its parts, and of a look with nothing new."""
    started = time.perf_counter()
    fill(url, config)
    filled = time.perf_counter() - started
    with Ledger.open(url, config.name) as ledger:
        ledger.register_spans([_arrival(NUM_SPANS + 1)])
        knowledge = read_knowledge(ledger, config)
        again = [_arrival(span) for span in range(NUM_SPANS - 10, NUM_SPANS + 2)]
        return {
            "plan_seconds": median(lambda: plan(ledger, config)),
            "knowledge_seconds": median(lambda: read_knowledge(ledger, config)),
            "plan_run_seconds": median(lambda: _plan(knowledge, config)),
            "register_known_seconds": median(lambda: ledger.register_spans(again)),
            "fill_seconds": round(filled, 1),
        }


def plan(ledger: Ledger, config: Config) -> RunPlan:
    """Read what is known from an open ledger and plan the next cycle, as the controller does."""
    return _plan(read_knowledge(ledger, config), config)


def _plan(knowledge: Any, config: Config) -> RunPlan:
    due = next_span(knowledge, config.window)
    if isinstance(due, Skip) or due.span != NUM_SPANS + 1:
        raise RuntimeError(f"The ledger was filled so that span {NUM_SPANS + 1} is due; received {due}.")
    request = Request(due, "next", datetime.now(UTC), push_version=NUM_SPANS + 1)
    return plan_run(knowledge, request, config.window, initialisation=config.training.initialisation)


def median(call: Callable[[], object]) -> float:
    """Return the median time of a call in seconds, after one that is not counted."""
    call()
    seconds = []
    for _ in range(NUM_REPEATS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 5)


def fill(url: str, config: Config) -> None:
    """Write a long history straight into the tables: every span was pushed, by a run of its own, as a warm start."""
    Ledger.open(url, config.name).close()
    engine = create_engine(url)
    shape = ModelShape(feature_set=config.feature_set, model=config.training.model).model_dump_json()
    batches = {
        tables.spans: _batches(_span_row),
        tables.runs: _batches(_run_row),
        tables.models: _batches(lambda span: _model_row(span, shape)),
        tables.transitions: _batches(_transition_row),
    }
    for table, rows in batches.items():
        for batch in rows:
            with engine.begin() as connection:
                connection.execute(insert(table), [{**row, "pipeline": config.name} for row in batch])
    with engine.begin() as connection:
        ours = tables.pipelines.c.pipeline == config.name
        pointer = {"last_version": NUM_SPANS, "champion_version": NUM_SPANS, "moved_at": _START}
        connection.execute(tables.pipelines.update().where(ours).values(pointer))
    engine.dispose()


def _batches(make_row: Callable[[int], dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for first in range(1, NUM_SPANS + 1, BATCH_ROWS):
        yield [make_row(span) for span in range(first, min(first + BATCH_ROWS, NUM_SPANS + 1))]


def span_ref(span: int) -> SpanRef:
    """Return the reference of a span of the history."""
    return SpanRef(span=span, version=1, digest=f"{span:064x}")


def _arrival(span: int) -> SpanArrival:
    return SpanArrival(ref=span_ref(span), num_examples=6000)


def _moment(span: int) -> datetime:
    return _START + timedelta(minutes=5 * span)


def _span_row(span: int) -> dict[str, Any]:
    return {
        **span_ref(span).model_dump(),
        "state": "pushed",
        "num_examples": 6000,
        "drift_verdict": "pass",
        "candidate_auc": 0.7,
        "champion_auc": 0.7,
        "pushed_version": span,
        "statistics_uri": f"/var/flights/artifacts/StatisticsGen/statistics/{span}",
        "replay_uri": f"/var/flights/artifacts/ReplayGen/buffer/{span}",
        "prequential": {"auc": 0.7, "binary_crossentropy": 0.5},
        "seconds": 30.0,
        "run_id": f"run-{span}",
        "reason": "Blessed: auc 0.7000 against the champion's 0.7000.",
        "updated_at": _moment(span),
        "arrived_at": _moment(span),
    }


def _run_row(span: int) -> dict[str, Any]:
    # A real plan is longer; how long does not matter to an index.
    return {
        "run_id": f"run-{span}",
        "span": span,
        "version": 1,
        "trigger": "new-span",
        "plan": "{}",
        "outcome": "pushed",
        "attempts": 0,
        "started_at": _moment(span),
        "finished_at": _moment(span),
    }


def _model_row(span: int, shape: str) -> dict[str, Any]:
    model = ModelRecord(
        version=span,
        run_id=f"run-{span}",
        span=span,
        span_version=1,
        model_uri=f"/var/flights/artifacts/Trainer/model/{span}",
        model_digest=f"{span:064x}",
        training_digest=f"{span:064x}",
        transform_graph_uri="/var/flights/artifacts/Transform/transform_graph/1",
        transform_span=NUM_SPANS,
        statistics_uri="/var/flights/artifacts/StatisticsGen/statistics/1",
        model_shape=shape,
        line_length=span - 1,
        line_start_span=1,
        newest_span=span,
        base_version=span - 1 or None,
        pushed_at=_moment(span),
    )
    return model.model_dump()


def _transition_row(span: int) -> dict[str, Any]:
    steps = {"from_state": "evaluated", "to_state": "pushed", "run_id": f"run-{span}", "at": _moment(span)}
    return {**span_ref(span).model_dump(), **steps}


def measure_discovery(root: Path) -> dict[str, float]:
    """Return what looks at a folder of many spans take in seconds: the first, and one at which nothing is new."""
    config = load_config(Path("conf/flights.yaml"), (f"root={root}",))
    for span in range(1, NUM_DISCOVERED + 1):
        folder = span_ref(span).folder(config.spans_path)
        folder.mkdir(parents=True)
        manifest = Manifest(span=span, version=1, files={split: (_span_file(split),) for split in SPLITS})
        write_manifest(folder, manifest)
    discovery = Discovery(config)
    started = time.perf_counter()
    discovery.confirm(discovery.look())
    first = time.perf_counter() - started
    return {"num_spans": NUM_DISCOVERED, "first_seconds": round(first, 3), "idle_seconds": median(discovery.look)}


def _span_file(split: str) -> SpanFile:
    path = f"Split-{split}/examples-00000-of-00001.tfrecord.gz"
    return SpanFile(path=path, sha256=f"{0:064x}", num_bytes=1, num_examples=3000)


def _write(results: dict[str, dict[str, float]], discovery: dict[str, float], missing: list[str]) -> None:
    worst = max(result["plan_seconds"] for result in results.values())
    rows = [
        f"| {name} | {1000 * r['plan_seconds']:.1f} | {1000 * r['knowledge_seconds']:.1f} | "
        f"{1000 * r['plan_run_seconds']:.1f} | {1000 * r['register_known_seconds']:.1f} |"
        for name, r in results.items()
    ]
    write_section(
        "Planning",
        (
            f"Written by `python -m benchmarks ledger`. {NUM_SPANS:,} pushed spans, with as many runs, models and",
            "transitions, in the ledger; from an open ledger to the plan of the next span; medians of",
            f"{NUM_REPEATS}, in milliseconds, on {machine()}.",
            "",
            "| database | plan | of it reading | of it planning | registering 12 known spans |",
            "|---|---|---|---|---|",
            *rows,
            "",
            *(line for sentence in missing for line in (f"Not measured: {sentence}", "")),
            f"That is {'within' if worst < LIMIT_SECONDS else 'beyond'} the bound of {1000 * LIMIT_SECONDS:g} ms.",
            f"Looking for new spans among {NUM_DISCOVERED:,} takes {discovery['first_seconds']:.2f} s the first",
            f"time, when every manifest is read, and {1000 * discovery['idle_seconds']:.0f} ms when nothing is new.",
        ),
    )


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word in DATABASES])
