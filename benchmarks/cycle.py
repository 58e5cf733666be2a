"""`python -m benchmarks cycle`: a cycle of ours against one of stock TFX components, on the same spans, interleaved.

Months of flights, about 27,000 examples each. Each side is a process that stays warm (`benchmarks.side`): a cold start
and one more cycle are not counted; then spans with a refreshed and with a frozen transform graph take turns. After
that, cycles in new processes, as commands. Nothing else may run meanwhile.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import machine, print_json, write_section
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from pipeline.config import Config, load_config
from schemas.loader import load_schema

CONFIG = "conf/flights.yaml"
# Months of 2013. The first is a cold start and not counted, nor is our first warm cycle, which stock TFX has no
# counterpart of; of the others, every second one refreshes the transform graph.
WARM_PROCESS_SPANS = range(1, 9)
NEW_PROCESS_SPANS = range(9, 12)
FIRST_WARM_SPAN = 2
SIDES = ("ours", "vanilla")
# The nodes of the two sides that do the same work, by the name of the row.
ROWS = {
    "ExampleGen": (("ExampleGen",), ("ImportExampleGen",)),
    "StatisticsGen": (("StatisticsGen",), ("StatisticsGen",)),
    "drift": (("ExampleValidator", "DriftGate"), ("ExampleValidator",)),
    "Prequential, ReplayGen": (("Prequential", "ReplayGen"), ()),
    "Transform": (("Transform", "AnalysisExampleGen", "WindowStatisticsGen"), ("Transform",)),
    "Trainer": (("Trainer",), ("Trainer",)),
    "Evaluator, Gate": (("Evaluator", "Gate"), ("Evaluator",)),
    "Pusher": (("Pusher",), ("Pusher",)),
}
Answer = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """One span, by both sides."""

    span: int
    ours: Answer
    vanilla: Answer

    def ratio(self, what: str = "seconds") -> float:
        """Return a number of ours over that of vanilla, by its name."""
        return float(self.ours[what] / self.vanilla[what])


class Side:
    """A process of `benchmarks.side`.

    Args:
        name: `ours` or `vanilla`.
        arguments: Config, root and overrides.
    """

    def __init__(self, name: str, *arguments: str) -> None:
        self._name = name
        command = [sys.executable, "-m", "benchmarks.side", name, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, span: int, epochs: int) -> Answer:
        """Run a cycle and return what it took."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The side has no pipes.")
        self._process.stdin.write(json.dumps({"span": span, "epochs": epochs}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The {self._name} side ended on span {span}. Its error stands above.")
        answer: Answer = json.loads(line)
        _say(f"span {span}: {self._name} {answer['seconds']:.1f} s, AUC {answer['auc']:.4f}, {answer['outcome']}")
        return answer

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    """Measure, and write the section of `docs/benchmarks.md`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        overrides = (
            f"root={root / 'ours'}",
            "ingest.window=month",
            "window.cold_spans=1",
            "window.refresh_every_spans=2",
            # Months differ by their season: a cold start in between would not be the cycle that is measured.
            "drift.default.distance.cold_start=null",
            *(f"drift.features.{name}.distance.cold_start=null" for name in ("tailnum", "temp", "dewp")),
            "drift.features.tailnum.new_values.cold_start=null",
        )
        config = load_config(Path(CONFIG), overrides)
        spans = range(WARM_PROCESS_SPANS.start, NEW_PROCESS_SPANS.stop)
        ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=spans)
        cold, pairs = _warm_processes(config, root, overrides)
        new = _new_processes(config, root, overrides)
    _report(config, cold, pairs, new)


def _warm_processes(config: Config, root: Path, overrides: tuple[str, ...]) -> tuple[Pair, list[Pair]]:
    sides = {name: Side(name, CONFIG, str(root / name), *overrides) for name in SIDES}
    pairs: list[Pair] = []
    for span in WARM_PROCESS_SPANS:
        if span == FIRST_WARM_SPAN:
            sides["ours"].run(span, config.training.epochs_warm)
            continue
        # Both make as many passes over the data, from nothing in the first cycle; ours starts warm afterwards.
        epochs = config.training.epochs_warm if pairs else config.training.epochs_cold
        # Who goes first changes, so that neither always finds the files in the page cache.
        order = SIDES if span % 4 < 2 else SIDES[::-1]
        answers = {name: sides[name].run(span, epochs) for name in order}
        answers["ours"]["num_examples"] = read_manifest(config.spans_path, span, 1).num_examples
        pairs.append(Pair(span, **answers))
    for side in sides.values():
        side.end()
    return pairs[0], pairs[1:]


def _new_processes(config: Config, root: Path, overrides: tuple[str, ...]) -> list[Pair]:
    """Run a frozen cycle a span as a command of its own: `perennial run --span N`, and a script of stock TFX."""
    sets = [word for override in (*overrides, "window.refresh_every_spans=null") for word in ("--set", override)]
    pairs = []
    for span in NEW_PROCESS_SPANS:
        ours = [
            str(Path(sys.executable).with_name("perennial")),
            "run",
            "--config",
            CONFIG,
            "--span",
            str(span),
            "--json",
            *sets,
        ]
        vanilla = [sys.executable, "-m", "benchmarks.side", "vanilla", CONFIG, str(root / "vanilla"), *overrides]
        request = json.dumps({"span": span, "epochs": config.training.epochs_warm})
        answers = {"ours": _command(ours, ""), "vanilla": _command(vanilla, request)}
        _say(f"span {span}, new: " + ", ".join(f"{name} {answer['seconds']:.1f} s" for name, answer in answers.items()))
        pairs.append(Pair(span, **answers))
    return pairs


def _command(command: list[str], text: str) -> Answer:
    """Run a command to its end; seconds from the start of the process, and its peak memory."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if process.stdin is not None:
        process.stdin.write(text)
        process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def _report(config: Config, cold: Pair, pairs: list[Pair], new: list[Pair]) -> None:
    kinds = {
        "warm": [pair for pair in pairs if not pair.ours["is_refresh"]],
        "refresh": [pair for pair in pairs if pair.ours["is_refresh"]],
    }
    results = {
        "warm_ratio": _median_ratio(kinds["warm"], "seconds"),
        "refresh_ratio": _median_ratio(kinds["refresh"], "seconds"),
        "new_process_ratio": _median_ratio(new, "seconds"),
        # Of processor seconds: what a machine that does other work too disturbs less.
        "cpu_ratios": {kind: _median_ratio(chosen, "cpu_seconds") for kind, chosen in {**kinds, "new": new}.items()},
        # Both cold, on the same span, with as many passes: what is left is chance, and what speed might have cost.
        "auc_delta": round(cold.ours["auc"] - cold.vanilla["auc"], 4),
        "peak_memory_ratio": round(pairs[-1].ratio("peak_mib"), 3),
        "new_process_peak_memory_ratio": _median_ratio(new, "peak_mib"),
        "seconds": {
            kind: {
                row: [
                    round(median(_row_seconds(side, nodes[at]) for side in sides), 2)
                    for at, sides in enumerate(([p.ours for p in chosen], [p.vanilla for p in chosen]))
                ]
                for row, nodes in ROWS.items()
            }
            for kind, chosen in kinds.items()
        },
        "total_seconds": {
            kind: [round(median(getattr(p, side)["seconds"] for p in chosen), 2) for side in SIDES]
            for kind, chosen in {**kinds, "new_process": new}.items()
        },
        "examples": [pair.ours["num_examples"] for pair in pairs],
    }
    _write(config, cold, pairs, results)
    print_json("cycle", **results)


def _median_ratio(pairs: list[Pair], what: str) -> float:
    return round(median(pair.ratio(what) for pair in pairs), 3)


def _row_seconds(answer: Answer, nodes: tuple[str, ...]) -> float:
    return float(sum(answer["nodes"].get(node, 0.0) for node in nodes))


def _write(config: Config, cold: Pair, pairs: list[Pair], results: Answer) -> None:
    seconds, totals = results["seconds"], results["total_seconds"]
    rows = [
        f"| {row} | {seconds['warm'][row][0]:.2f} | {seconds['warm'][row][1]:.2f} | {seconds['refresh'][row][0]:.2f} "
        f"| {seconds['refresh'][row][1]:.2f} |"
        for row in ROWS
    ]
    whole = " | ".join(f"{value:.2f}" for kind in ("warm", "refresh") for value in totals[kind])
    examples = results["examples"]
    section = (
        "Written by `python -m benchmarks cycle`. Months of flights,",
        f"{min(examples):,} to {max(examples):,} examples; ours against a pipeline of stock TFX components written",
        "like TFX's penguin example (`benchmarks/vanilla`), which has the same features, analyses them anew each time,",
        "trains a model of the same layers for as many passes and compares it with the last blessed one. Two warm",
        f"processes take turns; medians of {len(pairs) // 2} spans, in seconds by the clock. {machine()}.",
        "",
        "| node | ours, warm | stock TFX | ours, refresh | stock TFX |",
        "|---|---|---|---|---|",
        *rows,
        f"| **the cycle** | {whole} |",
        "",
        f"Ours takes **{results['warm_ratio']:.2f}** of stock TFX's time for a warm cycle,",
        f"**{results['refresh_ratio']:.2f}** where the transform graph is refreshed, and",
        f"**{results['new_process_ratio']:.2f}** as `perennial run --span N` in a new process",
        f"({totals['new_process'][0]:.1f} s against {totals['new_process'][1]:.1f} s). Nodes of ours run side by side,",
        "so their seconds may sum up to more than the cycle. Peak memory after the last of the cycles is",
        f"{results['peak_memory_ratio']:.2f} of stock TFX's ({pairs[-1].ours['peak_mib']:,.0f} MiB),",
        f"{results['new_process_peak_memory_ratio']:.2f} in a new process. AUC after a cold start on the same span,",
        f"{config.training.epochs_cold} passes: {cold.ours['auc']:.4f} against {cold.vanilla['auc']:.4f}. In processor",
        f"seconds the ratios are {_words(results['cpu_ratios'])}; the machine's load was {os.getloadavg()[2]:.1f}.",
    )
    write_section("A cycle", section)


def _words(ratios: dict[str, float]) -> str:
    return ", ".join(f"{ratio:.2f} ({kind})" for kind, ratio in ratios.items())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
