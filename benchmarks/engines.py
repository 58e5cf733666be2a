"""Seconds and memory of the nodes that read many examples, by engine and size, each cell in a process of its own.

Cells that were measured before are kept in `ROOT/cells.json` and not measured again: the largest take a night.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.heavy_nodes import bootstrap_span, ingest_flights, make_inputs
from benchmarks.report import machine, print_json, write_section
from core.errors import PipelineError
from ledger.ledger import Ledger
from pipeline.config import Config, load_config
from pipeline.quiet import quiet_libraries
from schemas.engine import EngineOptions
from tools.flink.cluster import Cluster
from tools.flink.fetch import fetch_flink, fetch_job_server

PAGE = Path("docs/performance.md")
HEADING = "Measured"
NODES = ("StatisticsGen", "Transform", "Evaluator")
SIZES = (20_000, 200_000, 2_000_000)
ENGINES = {
    "in_process": ["engine=in_process"],
    "beam, in_memory": ["engine=beam"],
    "beam, multi_processing x2": ["engine=beam", "beam.runner=multi_processing", "beam.num_workers=2"],
}
FLINK = "beam, flink x2"
# The span whose model is evaluated.
MODEL_SPAN = 8
SAMPLE_SECONDS = 0.2
Cell = dict[str, Any]


@click.command()
@click.option("--root", default="var/engines", type=click.Path(path_type=Path), help="Spans, a model, and the results.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES, help="Examples of a span.")
@click.option("--node", "nodes", multiple=True, type=click.Choice(NODES), default=NODES)
@click.option("--engine", "engines", multiple=True, type=click.Choice([*ENGINES, FLINK]), default=[*ENGINES, FLINK])
@click.option("--limit", default=1800, help="Seconds after which a cell is given up.")
def main(root: Path, sizes: tuple[int, ...], nodes: tuple[str, ...], engines: tuple[str, ...], limit: int) -> None:
    """Measure the cells that are asked for, and write the table of all that were ever measured."""
    quiet_libraries()
    cells = _read(root / "cells.json")
    model = _model(root)
    for size in sizes:
        _prepare(root, size, model)
        for engine in engines:
            for node in nodes:
                key = f"{node}/{size}/{engine}"
                if key in cells:
                    continue
                measure = _measure_flink if engine == FLINK else partial(_measure, overrides=ENGINES[engine])
                cells[key] = measure(root, size, node, limit)
                print(key, cells[key], flush=True)
                (root / "cells.json").write_text(json.dumps(cells, indent=1))
    write_section(HEADING, section_lines(root, cells), page=PAGE)
    print_json("engines", cells=cells)


def _config(root: Path, *overrides: str) -> Config:
    return load_config(Path("conf/flights.yaml"), (f"root={root}", "window.cold_spans=1", *overrides))


def _model(root: Path) -> Path:
    """Return a Model artifact's folder: the first run's, of one span of real flights, made where there is none."""
    config = _config(root / "source")
    if not config.spans_path.is_dir():
        ingest_flights(config)
        command = [sys.executable, "-m", "cli.main", "run", f"--span={MODEL_SPAN}", "--set=window.cold_spans=1"]
        subprocess.run([*command, f"--set=root={root / 'source'}"], check=True)
    with Ledger.open(config.ledger_url, config.name) as ledger:
        champion = ledger.champion()
    if champion is None:
        raise SystemExit(f"The run in {config.root_path} pushed no model. Remove the folder and run again.")
    return Path(champion.model_uri)


def _prepare(root: Path, size: int, model: Path) -> None:
    from tfx.utils import json_utils

    file = root / f"inputs-{size}.json"
    if not file.is_file():
        config = _config(root)
        span = bootstrap_span(_config(root / "source").spans_path, config.spans_path, size)
        file.write_text(json_utils.dumps(make_inputs(config, span, root / f"inputs-{size}", model)))


def _measure_flink(root: Path, size: int, node: str, limit: int) -> Cell:
    cluster = Cluster(root / "flink", rest_port=18081, pool_port=15000)
    try:
        fetch_job_server()
        cluster.start(fetch_flink())
    except PipelineError as error:
        return {"not_measured": str(error).partition(". ")[0]}
    try:
        options = cluster.options.model_dump(exclude_defaults=True)
        overrides = ["engine=beam", *(f"beam.{name}={value}" for name, value in options.items())]
        return _measure(root, size, node, limit, overrides=overrides, others=cluster.processes())
    finally:
        cluster.stop()


def _measure(
    root: Path, size: int, node: str, limit: int, *, overrides: list[str], others: Sequence[psutil.Process] = ()
) -> Cell:
    """Run a cell, and sample the memory and processor time of it, its children and others that work for it."""
    # Two of these at once must not remove one another's.
    outputs = root / f"outputs-{os.getpid()}"
    words = ["-m", "benchmarks.heavy_nodes", str(root), str(size), node, str(outputs), f"root={outputs}", *overrides]
    load = os.getloadavg()[0]
    start = time.monotonic()
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as cell:
        watched = _Watched(cell.pid, others)
        try:
            out, err = cell.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            watched.kill()
            return {"limit": limit, "load": round(load, 1), "peak_mib": watched.stop()[0]}
        peak_mib, cpu_seconds = watched.stop()
    if cell.returncode != 0:
        return {"not_measured": err.strip().splitlines()[-1][:200], "elapsed": round(time.monotonic() - start)}
    said = json.loads(out.splitlines()[-1])
    return {
        "seconds": round(said["seconds"], 1),
        "cpu_seconds": round(said["cpu_seconds"] + cpu_seconds, 1),
        "peak_mib": peak_mib,
        "engine": said["engine"],
        "load": round(load, 1),
    }


class _Watched:
    """Samples a process and all that it started, and others, until it is stopped.

    Args:
        pid: The cell's; its own processor time is not counted, since it measures the node's alone.
        others: Processes that do its work without being its children.
    """

    def __init__(self, pid: int, others: Sequence[psutil.Process]) -> None:
        self._cell = psutil.Process(pid)
        self._others = others
        self._peak_bytes = 0
        # What a cluster spent before is not this cell's.
        self._before = {process.pid: _cpu_seconds(process) for process in others}
        self._spent: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[int, float]:
        """Return the largest sum of resident memory, in MiB, and the processor seconds of all but the cell itself."""
        self._done.set()
        self._thread.join()
        return self._peak_bytes // 2**20, sum(self._spent.values()) - sum(self._before.values())

    def kill(self) -> None:
        """End the cell and its children."""
        for process in (*self._cell.children(recursive=True), self._cell):
            process.kill()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            resident = 0
            for parent in (self._cell, *self._others):
                with suppress(psutil.NoSuchProcess):
                    for process in (parent, *parent.children(recursive=True)):
                        resident += process.memory_info().rss
                        if process != self._cell:
                            self._spent[process.pid] = _cpu_seconds(process)
            self._peak_bytes = max(self._peak_bytes, resident)


def _cpu_seconds(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _read(path: Path) -> dict[str, Cell]:
    return json.loads(path.read_text()) if path.is_file() else {}


def section_lines(root: Path, cells: dict[str, Cell]) -> list[str]:
    """Return the table of what was measured, and what `auto` takes beside it."""
    lines = [
        f"`make bench ARGS=engines` on {machine()}. Seconds of the node alone, with the libraries loaded; CPU seconds",
        "of it and of all processes that work for it; peak resident memory of all of them, libraries included; load of",
        "the machine before. The spans are drawn with replacement from 13 weeks of flights.",
        "",
        "| node | examples | engine | seconds | CPU seconds | peak MiB | load |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for key in sorted(cells, key=_order):
        node, size, engine = key.split("/")
        lines.append(f"| {node} | {int(size):,} | {engine} | {_numbers(cells[key])} |")
    return [*lines, "", *_choices(root, cells)]


def _order(key: str) -> tuple[int, int, int]:
    node, size, engine = key.split("/")
    return NODES.index(node), int(size), [*ENGINES, FLINK].index(engine)


def _numbers(cell: Cell) -> str:
    if why := cell.get("not_measured"):
        return f"not measured: {why} | | |"
    if limit := cell.get("limit"):
        return f"> {limit} | | {cell['peak_mib']:,} | {cell['load']}"
    return f"{cell['seconds']} | {cell['cpu_seconds']} | {cell['peak_mib']:,} | {cell['load']}"


def _choices(root: Path, cells: dict[str, Cell]) -> list[str]:
    """Return what `auto` takes for each node and size, beside the fewest CPU seconds of any engine."""
    lines = ["| node | examples | `auto` takes | its CPU seconds / the least |", "|---|---:|---|---:|"]
    by_size: dict[tuple[str, int], dict[str, float]] = {}
    for key in sorted(cells, key=_order):
        node, size, engine = key.split("/")
        if "cpu_seconds" in cells[key]:
            by_size.setdefault((node, int(size)), {})[engine] = cells[key]["cpu_seconds"]
    for (node, num_examples), measured in by_size.items():
        if len(measured) < 2:
            continue  # nothing to compare with
        files = (root / f"inputs-{num_examples}/examples/examples").rglob("*.gz")
        chosen = EngineOptions().choose(num_examples, sum(file.stat().st_size for file in files))
        found = [seconds for engine, seconds in measured.items() if engine.startswith(chosen)][:1]
        ratio = f"{found[0] / min(measured.values()):.2f}" if found else "not measured"
        lines.append(f"| {node} | {num_examples:,} | {chosen} | {ratio} |")
    return lines


if __name__ == "__main__":
    main()
