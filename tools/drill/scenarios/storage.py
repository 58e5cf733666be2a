"""Disks that are full, and a serving folder that goes away."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.ledger import Ledger
from tools.drill.drill import EXIT_UNAVAILABLE, Drill
from tools.drill.facts import visible_versions
from tools.drill.harness import Worker
from tools.drill.points import Kind, Point
from tools.drill.small_pipeline import SmallPipeline

# Three cycles leave 10 MB, and their temporary files need as much again.
DISK_BYTES = 96 * 1024 * 1024
NUM_RANDOM_MOMENTS = 4
# Where a worker finds the disk full once in every cycle: in nodes that write much, at a checkpoint, where only a
# database is written, and in each step of the record.
_FULL_AT: tuple[tuple[Kind, str], ...] = (
    ("start", "StatisticsGen"),
    ("start", "Trainer"),
    ("epoch", "2"),
    ("executed", "Evaluator"),
    ("start", "Pusher"),
    ("step", "record_model"),
    ("step", "expose"),
    ("step", "decide"),
    ("step", "finish_run"),
)
# While nothing is staged yet, between staging and exposing, and behind it.
_REMOVALS = frozenset({("start", "Trainer"), ("step", "promote"), ("step", "decide")})


def fill_the_disk(drill: Drill) -> None:
    """Fill the disk below a pipeline at moments drawn by chance, make room when the worker has ended, go on."""
    with _small_disk(drill.harness.folder / "disk") as disk:
        if disk is None:
            drill.sheet.skipped = "a small disk needs root and mount"
            return
        retries = {"max_attempts": 2, "backoff_seconds": 0.05}
        pipeline = drill.harness.make_pipeline("full-disk", num_spans=3, root=disk / "root", retries=retries)
        with drill.watched(pipeline):
            seen: list[Point] = []
            for _ in range(NUM_RANDOM_MOMENTS):
                with Worker(pipeline) as worker:
                    if worker.run_for(drill.random.uniform(0.0, 12.0)):
                        _fill(drill, worker, disk / "filler")
                seen += worker.seen
            full: set[tuple[int, Kind, str]] = set()

            def fill(worker: Worker, point: Point) -> bool:
                if point.place in full or (point.kind, point.name) not in _FULL_AT:
                    return False
                full.add(point.place)
                _fill(drill, worker, disk / "filler")
                return True

            seen += drill.run_all(pipeline, fill, allowed=(0, EXIT_UNAVAILABLE))
        drill.check_twin(pipeline, seen)


def _fill(drill: Drill, worker: Worker, filler: Path) -> None:
    """Fill the disk, let the worker run into it, and make room again when it has ended."""
    where = worker.seen[-1] if worker.seen else "the start"
    _write_until_full(filler)
    code = worker.finish()
    filler.unlink()
    drill.sheet.counts["full disks"] += 1
    drill.sheet.counts[f"exit code {code}"] += 1
    # What runs to its end without writing anything more has no reason to fail.
    is_told = code in (0, EXIT_UNAVAILABLE)
    drill.sheet.expect(
        "a full disk is told apart", is_told, f"Full at {where}, exit code {code}:\n{worker.text[-2000:]}"
    )


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """Yield a file system of `DISK_BYTES` in memory, or None where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _write_until_full(file: Path) -> None:
    """Write to `file` until not one byte more goes onto its disk."""
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while stream.write(bytes(size)) == size:
                    pass


def remove_the_serving_folder(drill: Drill) -> None:
    """Take the serving folder away during cycles and between them; every worker brings it back before it does more."""
    pipeline = drill.harness.make_pipeline("no-serving", num_spans=2 if drill.is_quick else 3)
    serving = pipeline.config.serving_path

    def remove(worker: Worker, point: Point) -> bool:
        if point.kind == "plan":
            _check_served(drill, pipeline)
        if (point.kind, point.name) in _REMOVALS and _remove(serving):
            drill.sheet.counts["removals in a cycle"] += 1
        return False

    seen: list[Point] = []
    with drill.watched(pipeline):
        while (worker := drill.attempt(pipeline, remove)).seen:
            drill.sheet.expect("the cycle goes on", worker.exit_code == 0, worker.text[-2000:])
            seen += worker.seen
            drill.sheet.counts["removals between cycles"] += _remove(serving)
        # Nothing was due this time, and still the champion must be there again.
        _check_served(drill, pipeline)
    drill.check_twin(pipeline, seen)


def _remove(serving: Path) -> bool:
    # Under another name first: it vanishes at once, as a file system does that is unmounted.
    if not serving.exists():
        return False
    gone = serving.with_name("removed")
    serving.rename(gone)
    shutil.rmtree(gone)
    return True


def _check_served(drill: Drill, pipeline: SmallPipeline) -> None:
    with Ledger.open(pipeline.config.ledger_url, pipeline.config.name) as ledger:
        champion = ledger.champion()
    visible = visible_versions(pipeline.config.serving_path)
    is_served = champion is None or visible[-1:] == (champion.version,)
    drill.sheet.expect("the champion is served again", is_served, f"Serving shows {visible}, not {champion}.")
