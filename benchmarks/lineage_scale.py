"""`python -m benchmarks lineage`: what made a model that 1,000 warm starts led to, asked in a fresh process."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_RUNS = 1000
NUM_REPEATS = 5
# Of the issue: lineage of a model 1,000 warm starts deep.
LIMIT_SECONDS = 1.0


def main() -> None:
    """Write the store, ask it, and write the section of `docs/benchmarks.md`."""
    from benchmarks.report import machine, print_json, write_section

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "metadata.sqlite"
        _write_store(store)
        num_bytes = store.stat().st_size
        command = [sys.executable, "-m", "benchmarks.lineage_scale", str(store)]
        answers = [json.loads(subprocess.check_output(command, text=True)) for _ in range(NUM_REPEATS)]
    median = {name: round(statistics.median(answer[name] for answer in answers), 3) for name in answers[0]}
    within = "within" if median["model_seconds"] < LIMIT_SECONDS else "beyond"
    write_section(
        "Lineage",
        (
            f"Written by `python -m benchmarks lineage`. {NUM_RUNS:,} simulated runs of our DAG in one SQLite store",
            f"of ML Metadata ({num_bytes / 2**20:.0f} MiB), each warm-started from the one before and pushed, with a",
            "replay buffer that has every earlier span. Seconds of the clock and of the processor, medians of",
            f"{NUM_REPEATS} fresh processes on {machine()}.",
            "",
            "| question | seconds | processor seconds |",
            "|---|---|---|",
            f"| import | {median['import_seconds']:.2f} | {median['import_cpu']:.2f} |",
            f"| `lineage model {NUM_RUNS}`: {median['num_bases']} base models, {median['num_spans']} spans | "
            f"{median['model_seconds']:.2f} | {median['model_cpu']:.2f} |",
            f"| `lineage span 1`: {median['num_learners']} models | {median['span_seconds']:.2f} | "
            f"{median['span_cpu']:.2f} |",
            "",
            f"That is {within} the bound of {LIMIT_SECONDS:g} s for a model 1,000 warm starts deep.",
        ),
    )
    print_json("lineage", num_runs=NUM_RUNS, store_bytes=num_bytes, **median)


def _write_store(path: Path) -> None:
    from benchmarks.simulated_runs import SimulatedRuns, sqlite_store
    from pipeline.config import load_config
    from pipeline.quiet import quiet_libraries

    quiet_libraries()
    overrides = (f"root={path.parent}", "training.replay_ratio=0.5")
    runs = SimulatedRuns(sqlite_store(path), load_config(Path("conf/flights.yaml"), overrides))
    for _ in range(NUM_RUNS):
        runs.write_run()


def ask(path: Path) -> None:
    """Answer both questions from a store and print what they took, as JSON."""
    started = _clocks()
    from lineage.graph import load_models
    from lineage.queries import find_model, model_lineage, span_lineage
    from lineage.store import opened_store

    imported = _clocks()
    with opened_store(f"sqlite:///{path}") as store:
        graph = load_models(store, evaluated=[NUM_RUNS])
    model = model_lineage(graph, find_model(graph, NUM_RUNS))
    answered = _clocks()
    with opened_store(f"sqlite:///{path}") as store:
        span = span_lineage(load_models(store, evaluated=()), 1)
    moments = {"import": (started, imported), "model": (imported, answered), "span": (answered, _clocks())}
    answer = {
        f"{name}_{unit}": end - begin
        for name, (before, after) in moments.items()
        for unit, begin, end in zip(("seconds", "cpu"), before, after, strict=True)
    }
    counts = {"num_bases": len(model.base_models), "num_spans": len(model.spans), "num_learners": len(span.models)}
    print(json.dumps(answer | counts))


def _clocks() -> tuple[float, float]:
    """Return the clock's and the processor's seconds."""
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_file():
        ask(Path(sys.argv[1]))
    else:
        main()
