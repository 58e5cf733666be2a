"""`python -m benchmarks.continual`: run the study, write `docs/continual.md`, end with one JSON object.

Every result is kept in the work folder as soon as it is there; the same command goes on where a killed one stopped.
"""

import json
import os
from pathlib import Path

import click

WORK_FOLDER = Path("var/continual")
DOCS = Path("docs")
EPILOG = "Example: python -m benchmarks.continual --quick --seeds 1"


@click.command(epilog=EPILOG)
@click.option(
    "--quick", is_flag=True, help="One seed, 12 weeks, short synthetic streams; a smoke test, writes no docs."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Seeds, from 0 on; one if --quick.")
@click.option("--streams", default="", help="Only these streams, e.g. flights,abrupt.")
@click.option("--policies", default="", help="Only these policies, e.g. warm,replay. Then no docs are written.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of TensorFlow.")
@click.option(
    "--work-folder", default=WORK_FOLDER, show_default=True, type=click.Path(path_type=Path), help="For results."
)
@click.option("--fresh", is_flag=True, help="Forget the results in the work folder first.")
def main(quick: bool, seeds: int, streams: str, policies: str, threads: int, work_folder: Path, fresh: bool) -> None:
    """Compare policies of continual learning on a year of flights and on synthetic drift.

    Scores are prequential: every span is predicted before anything learns from it. The last line of the output is
    a JSON object for flights: policy -> {auc, log_loss, train_seconds}, means over seeds.
    """
    _quieten(threads)
    from benchmarks.continual.report import write_report
    from benchmarks.continual.scores import ResultFile, mean_over_seeds
    from benchmarks.continual.study import Study

    file = ResultFile(work_folder / ("quick.jsonl" if quick else "results.jsonl"))
    if fresh:
        file.clear()
    study = Study(quick=quick, num_seeds=1 if quick else seeds, streams=_names(streams), policies=_names(policies))
    results = study.run(file, say=click.echo)
    if not (quick or policies or streams):
        write_report(results, DOCS)
        click.echo(f"Wrote {DOCS / 'continual.md'} and its plots.")
    flights = [result for result in results if result.stream == "flights"]
    click.echo(json.dumps(mean_over_seeds(flights)))


def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in text.split(",") if name)


def _quieten(threads: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # steps are too short for a device to pay
    from pipeline.quiet import quiet_libraries

    quiet_libraries()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


if __name__ == "__main__":
    main()
