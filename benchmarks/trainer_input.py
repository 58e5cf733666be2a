"""How busy its input keeps the training step: examples a second through it, against tensors that are in memory already.

Model, steps and batches are the same in all. `memory` is handed the batches of every epoch. `loaded` is what the
Trainer does up to `max_loaded_examples`: it orders the batches of each epoch, from examples that it has read and
transformed before; `loaded, from files` counts that too. `streamed` is beyond: read and transform in every epoch.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, print_json, write_section
from ingest.ingestion import ingest
from pipeline.config import Config, load_config
from pipeline.quiet import quiet_libraries
from schemas.loader import load_schema

SPANS = range(8, 13)
NUM_ROUNDS = 5
NUM_EPOCHS = 4
Epochs = Callable[[], None]


def main() -> None:
    """Measure, write the section, print the JSON."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as root:
        num_examples, kinds = _kinds(Path(root))
        for epochs in kinds.values():  # what is traced once is not measured
            epochs()
        # In turn, so that all meet the same machine: a ratio is of one round.
        rounds = [{name: num_examples / _seconds(epochs) for name, epochs in kinds.items()} for _ in range(NUM_ROUNDS)]
    rates = {name: statistics.median(one[name] for one in rounds) for name in kinds}
    shares = {name: statistics.median(one[name] / one["memory"] for one in rounds) for name in kinds}
    rows = [f"| {name} | {rates[name]:,.0f} | {shares[name]:.0%} |" for name in kinds]
    about = f"Flights, {num_examples:,} examples in {NUM_EPOCHS} epochs; medians of {NUM_ROUNDS} rounds. {machine()}."
    write_section(
        "Trainer input",
        [about, "", "| input | examples a second | of those in memory |", "|---|---|---|", *rows],
    )
    print_json("trainer_input", num_examples=num_examples, examples_per_second=rates, share_of_memory=shares)


def _kinds(root: Path) -> tuple[int, dict[str, Epochs]]:
    """Return how many examples all epochs learn from, and what learns from them, by the kind of input."""
    from trainer.examples import StreamedExamples, load_examples
    from trainer.input_data import TrainingData
    from trainer.learner import Learner
    from trainer.model import build_model
    from trainer.transform_graph import TransformGraph

    config = load_config(Path("conf/flights.yaml"), (f"root={root}",))
    features, options = config.feature_set, config.training
    files = _ingested(config)
    graph = TransformGraph(_analysed(config, files, root / "graph"), features)
    learner = Learner(build_model(features, options), features, options)
    data_of = functools.partial(
        TrainingData,
        num_examples=sum(map(len, _records(files))),
        batch_size=options.batch_size,
        validation_fraction=options.validation_fraction,
        seed=options.seed,
    )
    loaded = data_of(load_examples(_records(files), graph, None))
    streamed = data_of(StreamedExamples(tuple(map(str, files)), graph))
    ready = [loaded.training(epoch) for epoch in range(NUM_EPOCHS)]

    def learn(batches_of: Callable[[int], Any]) -> None:
        for epoch in range(NUM_EPOCHS):
            learner.train(batches_of(epoch))

    def learn_from_files() -> None:
        learn(data_of(load_examples(_records(files), graph, None)).training)

    return NUM_EPOCHS * loaded.num_learned_examples, {
        "memory": lambda: learn(ready.__getitem__),
        "loaded": lambda: learn(loaded.training),
        "loaded, from files": learn_from_files,
        "streamed": lambda: learn(streamed.training),
    }


def _ingested(config: Config) -> list[Path]:
    ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=SPANS)
    return sorted(config.spans_path.glob("span-*/version-*/Split-train/*"))


def _analysed(config: Config, files: list[Path], folder: Path) -> Path:
    from transform.in_process import InProcessTransform
    from transform.preprocessing import preprocessing_fn

    custom_config = {"feature_set": config.feature_set.model_dump_json()}
    function = functools.partial(preprocessing_fn, custom_config=custom_config)
    with tempfile.TemporaryDirectory() as temporary:
        transform = InProcessTransform(function, load_schema(Path(config.schema_file)), Path(temporary))
        transform.write(transform.analyse(files), folder)
    return folder


def _records(files: list[Path]) -> list[Any]:
    from records.reading import serialized_batches

    return [np.concatenate(list(serialized_batches([file]))) for file in files]


def _seconds(epochs: Epochs) -> float:
    started = time.perf_counter()
    epochs()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
