"""A span that can never be worked on: quarantined after some attempts, and the next one goes on."""

import os

from ingest.manifests import read_manifest
from ingest.span_writer import describe_file, write_manifest
from schemas.spans import span_folder
from tools.drill.drill import Drill
from tools.drill.facts import Facts
from tools.drill.harness import Worker
from tools.drill.points import Point
from tools.drill.small_pipeline import SmallPipeline

POISONED_SPAN = 3
MAX_ATTEMPTS = 2
_RETRIES = {"max_attempts": MAX_ATTEMPTS, "backoff_seconds": 0.05}


def crash_every_time(drill: Drill) -> None:
    """Kill every worker that trains on one span."""
    pipeline = drill.harness.make_pipeline("poison-crash", num_spans=4, retries=_RETRIES)

    def crash(worker: Worker, point: Point) -> bool:
        if (point.span, point.kind, point.name) != (POISONED_SPAN, "start", "Trainer"):
            return False
        drill.sheet.counts["crashes"] += 1
        worker.kill()
        return True

    with drill.watched(pipeline):
        drill.run_all(pipeline, crash)
    # The first attempt makes progress up to the node that kills it, so it does not count.
    _check_quarantined(drill, pipeline, num_failures=drill.sheet.counts["crashes"])


def fail_every_time(drill: Drill) -> None:
    """Put bytes that are no TFRecord into one span, under a manifest that vouches for them."""
    pipeline = drill.harness.make_pipeline("poison-data", num_spans=4, retries=_RETRIES)
    _spoil(pipeline)
    with drill.watched(pipeline):
        failures = 0
        for _ in range(4 * (MAX_ATTEMPTS + 2)):
            worker = drill.attempt(pipeline, lambda worker, point: False)
            if worker.exit_code == 0 and not worker.seen:
                break
            failures += worker.exit_code != 0
            drill.sheet.counts[f"exit code {worker.exit_code}"] += 1
            drill.sheet.expect("a failure is told in a sentence", "Traceback" not in worker.text, worker.text[-2000:])
    _check_quarantined(drill, pipeline, num_failures=failures)


def _spoil(pipeline: SmallPipeline) -> None:
    spans = pipeline.config.spans_path
    folder, manifest = span_folder(spans, POISONED_SPAN, 1), read_manifest(spans, POISONED_SPAN, 1)
    (file,) = manifest.files["train"]
    path = folder / file.path
    path.write_bytes(os.urandom(path.stat().st_size))
    files = {**manifest.files, "train": (describe_file(folder, path, file.num_examples),)}
    write_manifest(folder, manifest.model_copy(update={"files": files}))


def _check_quarantined(drill: Drill, pipeline: SmallPipeline, *, num_failures: int) -> None:
    facts = drill.check_alone(pipeline)
    states = _states(facts)
    drill.sheet.counts["failures"] += num_failures
    drill.sheet.expect("quarantined", states[POISONED_SPAN] == "quarantined", f"The states are {states}.")
    drill.sheet.expect("the next span goes on", states[POISONED_SPAN + 1] == "pushed", f"The states are {states}.")
    is_in_time = MAX_ATTEMPTS <= num_failures <= MAX_ATTEMPTS + 1
    drill.sheet.expect("after so many attempts", is_in_time, f"{num_failures} failures, for {MAX_ATTEMPTS} attempts.")


def _states(facts: Facts) -> dict[int, str]:
    return {row.span: row.state for row in facts.spans}
