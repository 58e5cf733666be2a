"""`python -m benchmarks long`: 300 cycles, a day of flights each, as `watch` runs them: what they cost in the end.

A line of JSON a cycle goes to `ROOT/cycles.jsonl` as soon as the cycle is over. Killed, it goes on there if it is given
the same `--root`; `--report` makes section and plot of what there is.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.report import machine, print_json, write_section
from ingest.ingestion import ingest
from ledger.ledger import Ledger
from pipeline.config import Config, load_config
from pipeline.quiet import quiet_libraries
from schemas.loader import load_schema

if TYPE_CHECKING:
    from pipeline.health import WorkerStatus

CONFIG = Path("conf/flights.yaml")
NUM_SPANS = 300
# The first day of the year is not whole.
FIRST_SPAN = 1
# Cycles on either side of the comparison, the first two of the process left out.
NUM_COMPARED = 20
NUM_UNCOUNTED = 2
# Of the issue: cycle 300 against cycle 5.
LIMIT_RATIO = 1.1
PLOT = Path("docs/long-run.svg")
_MIB = 2**20
_FEATURES = ("tailnum", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "pressure")
_NEVER = "{warn: null, cold_start: null, block: null}"
# A day has 920 examples, 180 of them to evaluate on, and is not the day before: it may be rejected, but not stopped.
OVERRIDES = (
    "ingest.window=day",
    "window.cold_spans=28",
    "window.refresh_every_spans=28",
    f"drift.label_rate={_NEVER}",
    "drift.anomaly_default=warn",
    f"drift.default={{distance: {_NEVER}, missing_rate: {_NEVER}, new_values: {_NEVER}}}",
    *(f"drift.features.{name}={{}}" for name in _FEATURES),
    "gate.bounds=[{metric: auc, minimum: 0.5, policy: non_inferior, margin: 0.05}]",
    "gate.bootstrap.min_examples=50",
    # Full by the fifth day: what the later days add is history, not the filling of a buffer.
    "replay={train_examples: 3000, eval_examples: 600}",
)
Cycle = dict[str, Any]


def main() -> None:
    """Run what is not done yet, and write section and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks long", description=__doc__)
    parser.add_argument("--spans", type=int, default=NUM_SPANS, help="cycles to run")
    parser.add_argument("--root", type=Path, help="folder to keep; without one a temporary folder")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the config")
    # `python -m benchmarks long …` leaves its own word among the arguments.
    arguments = parser.parse_args([word for word in sys.argv[1:] if word != "long"])
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder)
        if not arguments.report:
            run(root, arguments.spans, tuple(arguments.set))
        report(read_cycles(root))


def run(root: Path, num_spans: int, changes: tuple[str, ...]) -> None:
    """Run the spans that have no line yet, one after another, and write each one's line."""
    quiet_libraries()
    from pipeline.controller import Controller
    from pipeline.dags import warm_dag
    from pipeline.leadership import leading

    config = load_config(CONFIG, (f"root={root}", *OVERRIDES, *changes))
    last = max((cycle["span"] for cycle in read_cycles(root)), default=-1)
    spans = range(FIRST_SPAN, FIRST_SPAN + num_spans)
    ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=spans)
    lines = root / "cycles.jsonl"
    processes = _Processes()
    with (
        Ledger.open(config.ledger_url, config.name) as ledger,
        leading(ledger, config.worker.lease_ttl_seconds),
        warm_dag(
            config, is_at_once=True, on_change=processes.tell, echo=lambda line: print(line, file=sys.stderr)
        ) as dag,
        lines.open("a", encoding="utf-8") as stream,
    ):
        controller = Controller(config, ledger, dag=dag)
        for span in (span for span in spans if span > last):
            cycle = _measured(config, ledger, controller, processes, span)
            if cycle is None:
                continue
            # A line of its own, even behind one that a kill cut off.
            stream.write("\n" * _is_cut_off(lines) + json.dumps(cycle) + "\n")
            stream.flush()
            print(_sentence(cycle), file=sys.stderr, flush=True)


def read_cycles(root: Path) -> list[Cycle]:
    """Return what is measured so far; a line that a kill cut off does not count."""
    path = root / "cycles.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


class _Processes:
    """This process and the worker processes that it starts."""

    def __init__(self) -> None:
        self._worker = os.getpid()

    def tell(self, status: "WorkerStatus | None") -> None:
        """Note which process runs the cycles."""
        if status is not None and status.state == "busy":
            self._worker = status.pid

    @property
    def worker(self) -> int:
        """Number of the process that ran the last cycle."""
        return self._worker

    def cpu_seconds(self) -> float:
        """Return what all of them have used so far, those that have ended too."""
        ended = os.times()
        alive = [process.cpu_times() for process in self._family()]
        return float(ended.children_user + ended.children_system + sum(times.user + times.system for times in alive))

    def rss_mib(self) -> float:
        """Return the resident size of all of them."""
        return float(sum(process.memory_info().rss for process in self._family()) / _MIB)

    def _family(self) -> list[psutil.Process]:
        this = psutil.Process()
        return [this, *this.children(recursive=True)]


def _is_cut_off(path: Path) -> bool:
    return path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")


def _measured(config: Config, ledger: Ledger, controller: Any, processes: _Processes, span: int) -> Cycle | None:
    """Run a cycle and return what it took; None where it had been run already, and a kill came before its line."""
    from pipeline.decision import Decision
    from pipeline.summary import write_pipeline_summary

    started, cpu_started = time.perf_counter(), processes.cpu_seconds()
    decision = controller.run_span(span)
    cycle_seconds = time.perf_counter() - started
    write_pipeline_summary(config, ledger)
    seconds, cpu_seconds = time.perf_counter() - started, processes.cpu_seconds() - cpu_started
    if not isinstance(decision, Decision):
        return None
    return {
        "span": span,
        "process": processes.worker,
        "outcome": decision.outcome,
        "kind": _kind(decision),
        "auc": decision.gate.candidate.get("auc") if decision.gate else None,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "summary_seconds": round(seconds - cycle_seconds, 3),
        "node_seconds": {name: value for name, value in decision.seconds.items() if name != "total"},
        "rss_mib": round(processes.rss_mib(), 1),
        **_sizes(config),
    }


def _kind(decision: Any) -> str:
    if decision.gate is None:
        return "stopped"
    if decision.plan.initialisation == "cold":
        return "cold"
    return "refresh" if decision.plan.analysis_window else "warm"


def _sizes(config: Config) -> dict[str, int]:
    """Return bytes on disk, and how many files there are; hard links to one file count once."""
    root = config.spans_path.parent
    sizes, num_files = {}, 0
    for name, path in {
        "artifact": config.artifacts_path,
        "serving": config.serving_path,
        "runs": config.runs_path,
        "checkpoint": config.checkpoints_path,
        "statistics": config.statistics_path,
    }.items():
        files = _files_below(path)
        num_files += len(files)
        sizes[f"{name}_bytes"] = sum(files.values())
    for name in ("metadata", "ledger"):
        sizes[f"{name}_bytes"] = sum(path.stat().st_size for path in root.glob(f"{name}.sqlite*"))
    return {**sizes, "summary_bytes": config.summary_path.stat().st_size, "num_files": num_files}


def _files_below(folder: Path) -> dict[tuple[int, int], int]:
    """Return the sizes of files by their identity on disk."""
    found: dict[tuple[int, int], int] = {}
    waiting = [folder] if folder.is_dir() else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    status = entry.stat(follow_symlinks=False)
                    found[status.st_dev, status.st_ino] = status.st_size
    return found


def _sentence(cycle: Cycle) -> str:
    disk = sum(value for name, value in cycle.items() if name.endswith("_bytes")) / _MIB
    return (
        f"span {cycle['span']}: {cycle['kind']}, {cycle['outcome']}, {cycle['seconds']:.1f} s "
        f"({cycle['cpu_seconds']:.1f} s of processors), {cycle['rss_mib']:.0f} MiB, {disk:.0f} MiB on disk"
    )


def compared(cycles: list[Cycle]) -> tuple[list[Cycle], list[Cycle]]:
    """Return the first and the last warm cycles without a refresh, as many of each.

    The first cycles of a process are left out: they trace and import what the later ones have.
    """
    seen: dict[int, int] = {}
    warm = []
    for cycle in cycles:
        seen[cycle["process"]] = seen.get(cycle["process"], 0) + 1
        if cycle["kind"] == "warm" and seen[cycle["process"]] > NUM_UNCOUNTED:
            warm.append(cycle)
    count = min(NUM_COMPARED, max(1, len(warm) // 2))
    return warm[:count], warm[-count:]


def report(cycles: list[Cycle]) -> None:
    """Write the section of `docs/benchmarks.md`, the plot, and the line of JSON."""
    early, late = compared(cycles)
    if not early:
        raise SystemExit(f"Only {len(cycles)} cycles were run. Expected at least three. Run more.")
    ratio = {name: round(_median(late, name) / _median(early, name), 3) for name in ("seconds", "cpu_seconds")}
    kinds = {kind: [cycle for cycle in cycles if cycle["kind"] == kind] for kind in ("warm", "refresh", "cold")}
    results = {
        "num_cycles": len(cycles),
        "ratio": ratio["seconds"],
        "cpu_ratio": ratio["cpu_seconds"],
        "compared_spans": [[part[0]["span"], part[-1]["span"]] for part in (early, late)],
        "num_compared": len(early),
        "early_seconds": round(_median(early, "seconds"), 2),
        "late_seconds": round(_median(late, "seconds"), 2),
        "refresh_seconds": round(_median(kinds["refresh"], "seconds"), 2) if kinds["refresh"] else None,
        "outcomes": {
            word: sum(c["outcome"] == word for c in cycles) for word in sorted({c["outcome"] for c in cycles})
        },
        "rss_mib": [early[0]["rss_mib"], late[-1]["rss_mib"]],
        "bytes_per_cycle": {
            name: _bytes_per_cycle(cycles, f"{name}_bytes")
            for name in ("artifact", "serving", "runs", "checkpoint", "statistics", "metadata", "ledger")
        },
    }
    _plot(cycles)
    write_section("Long run", _lines(cycles, early, late, results))
    print_json("long", **results)


def _median(cycles: Iterable[Cycle], name: str) -> float:
    return float(median(cycle[name] for cycle in cycles))


def _bytes_per_cycle(cycles: list[Cycle], name: str) -> int:
    """Return how much a cycle adds, over the second half: what is written once is written by then."""
    middle = cycles[len(cycles) // 2]
    return int((cycles[-1][name] - middle[name]) / max(1, cycles[-1]["span"] - middle["span"]))


def _lines(cycles: list[Cycle], early: list[Cycle], late: list[Cycle], results: dict[str, Any]) -> Iterable[str]:
    (first, last), (first_late, last_late) = results["compared_spans"]
    within = "within" if results["ratio"] <= LIMIT_RATIO else "beyond"
    outcomes = ", ".join(f"{count} {word}" for word, count in results["outcomes"].items())
    nodes = sorted({name for cycle in (*early, *late) for name in cycle["node_seconds"]})
    medians = {
        name: [median(c["node_seconds"].get(name, 0.0) for c in part) for part in (early, late)] for name in nodes
    }
    size = results["bytes_per_cycle"]
    return (
        f"Written by `python -m benchmarks long`. {len(cycles)} cycles in a row, a day of flights each (about 920",
        "examples), with drift and gate so wide that no day stops the line; the transform graph is refreshed every 28",
        "days, and the replay buffer is so small that five days fill it. Nothing was removed in between.",
        f"{machine()}. Outcomes: {outcomes}. The first {NUM_UNCOUNTED} cycles of",
        "each worker process are not compared: they trace what the later ones keep.",
        "",
        f"Medians of {results['num_compared']} warm cycles without a refresh: spans {first} to {last} against spans",
        f"{first_late} to {last_late}; nodes run side by side, so their seconds add up to more than a cycle's.",
        "",
        "| what | early | late | late / early |",
        "|---|---|---|---|",
        *(
            _row(word, _median(early, name), _median(late, name))
            for word, name in (
                ("seconds", "seconds"),
                ("processor seconds", "cpu_seconds"),
                ("of it the summary, seconds", "summary_seconds"),
                ("resident memory, MiB", "rss_mib"),
            )
        ),
        *(_row(name, *medians[name]) for name in nodes if max(medians[name]) >= 0.05),
        "",
        f"Cycle {len(cycles)} costs **{results['ratio']:.2f} times** what cycle 5 costs, {within} the bound of",
        f"{LIMIT_RATIO:g} (processor seconds: {results['cpu_ratio']:.2f} times).",
        f"A cycle adds {size['artifact'] / _MIB:.2f} MiB of artifacts, {size['serving'] / _MIB:.2f} MiB of served",
        f"versions, {size['runs'] / 1024:.0f} KiB of run records, {size['metadata'] / 1024:.0f} KiB to ML Metadata and",
        f"{size['ledger'] / 1024:.0f} KiB to the ledger; `perennial model gc` removes old artifacts and versions.",
        "",
        f"![Seconds, memory and bytes on disk, by cycle]({PLOT.name})",
    )


def _row(word: str, early: float, late: float) -> str:
    ratio = f"{late / early:.2f}" if early > 0 else ""
    return f"| {word} | {early:.2f} | {late:.2f} | {ratio} |"


def _plot(cycles: list[Cycle]) -> None:
    import matplotlib

    matplotlib.use("svg")
    # Text as text, and the same file for the same numbers.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "perennial"})
    from matplotlib import pyplot

    figure, (seconds, memory, disk) = pyplot.subplots(1, 3, figsize=(12, 3), layout="constrained")
    for kind in ("warm", "refresh"):
        chosen = [cycle for cycle in cycles if cycle["kind"] == kind]
        seconds.plot([c["span"] for c in chosen], [c["seconds"] for c in chosen], ".", markersize=3, label=kind)
    seconds.set(xlabel="cycle", ylabel="seconds", ylim=(0, None))
    seconds.legend(frameon=False)
    spans = [cycle["span"] for cycle in cycles]
    memory.plot(spans, [cycle["rss_mib"] for cycle in cycles])
    memory.set(xlabel="cycle", ylabel="resident memory, MiB", ylim=(0, None))
    for name in ("artifact", "serving", "metadata", "runs", "ledger"):
        disk.plot(spans, [cycle[f"{name}_bytes"] / _MIB for cycle in cycles], label=name)
    disk.set(xlabel="cycle", ylabel="MiB on disk", ylim=(0, None))
    disk.legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
