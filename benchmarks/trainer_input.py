"""How busy its input keeps the training step, and what several steps in a call and XLA make of the step itself.

Model, steps and batches are the same in all, and the rates are steady ones: nothing is traced while it is measured.
`memory` is handed its batches, in an order that stands already. `loaded` is what the Trainer does up to
`max_loaded_examples`: it orders the batches of each epoch; reading and transforming, once a run, is said beside it.
`streamed` is beyond: read and transform in every epoch; `reading` does that and learns nothing.
"""

import functools
import os
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
NUM_EPOCHS = 8  # or one epoch over as many times the files: only many examples are streamed
STEPS_IN_A_CALL = (1, 20, 100)
Epochs = Callable[[], None]


def main() -> None:
    """Measure, write the section, print the JSON."""
    quiet_libraries()
    with tempfile.TemporaryDirectory() as root:
        work = _Work(Path(root))
        inputs = _measured(work.inputs(), work.num_examples)
        started = time.perf_counter(), time.process_time()
        work.load()
        start = {"seconds": time.perf_counter() - started[0], "cpu_seconds": time.process_time() - started[1]}
        steps, tracing = _measured_steps(work)
    about = f"Flights, {work.num_examples:,} examples a round; medians of {NUM_ROUNDS} rounds in turn. {machine()}, "
    about += f"load {os.getloadavg()[0]:.1f}; `streamed` needs two cores to itself, the others one."
    once = (
        f"`loaded` reads and transforms {work.num_loaded:,} examples once a run before: "
        f"{start['seconds']:.2f} s, {start['cpu_seconds']:.2f} of CPU."
    )
    head = "examples a second | CPU microseconds an example | share of `{}` |"
    rows = [_row(name, one) for name, one in inputs.items()]
    step_rows = [f"{_row(name, one)} {tracing[name]:.1f} |" for name, one in steps.items()]
    write_section(
        "Trainer input",
        [
            *(about, once, "", f"| input | {head.format('memory')}", "|---|---|---|---|", *rows, ""),
            *(f"| step | {head.format('1 in a call')} tracing, CPU s |", "|---|---|---|---|---|", *step_rows, ""),
            _break_even(steps, tracing),
        ],
    )
    print_json(
        "trainer_input", num_examples=work.num_examples, inputs=inputs, start=start, steps=steps, tracing=tracing
    )


def _row(name: str, one: dict[str, float]) -> str:
    return f"| {name} | {one['rate']:,.0f} | {one['cpu_microseconds']:.1f} | {one['share']:.0%} |"


def _break_even(steps: dict[str, dict[str, float]], tracing: dict[str, float]) -> str:
    plain, compiled = (f"{STEPS_IN_A_CALL[-1]} in a call{suffix}" for suffix in ("", ", XLA"))
    saved = 1e-6 * (steps[plain]["cpu_microseconds"] - steps[compiled]["cpu_microseconds"])
    if saved <= 0:
        return "XLA does not pay."
    millions = (tracing[compiled] - tracing[plain]) / saved / 1e6
    return f"By these CPU times XLA pays in a run that learns from more than {millions:.1f} million examples."


def _measured(kinds: dict[str, Epochs], num_examples: int) -> dict[str, dict[str, float]]:
    """Return rate, CPU time and share of the first kind's rate, by kind, of what has been traced before."""
    for epochs in kinds.values():
        epochs()
    # In turn, so that all meet the same machine: a ratio is of one round.
    rounds = [{name: _seconds(epochs) for name, epochs in kinds.items()} for _ in range(NUM_ROUNDS)]
    base = next(iter(kinds))
    return {
        name: {
            "rate": statistics.median(num_examples / one[name][0] for one in rounds),
            "cpu_microseconds": statistics.median(1e6 * one[name][1] / num_examples for one in rounds),
            "share": statistics.median(one[base][0] / one[name][0] for one in rounds),
        }
        for name in kinds
    }


def _measured_steps(work: "_Work") -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return what `_measured` does and the CPU seconds of tracing, by kind of step."""
    kinds, first = {}, {}
    for jit_compile in (False, True):
        for num_steps in STEPS_IN_A_CALL:
            name = f"{num_steps} in a call{', XLA' if jit_compile else ''}"
            epochs = work.learning(jit_compile=jit_compile, steps_per_execution=num_steps)
            kinds[name], first[name] = epochs, _seconds(epochs)[1]
    steps = _measured(kinds, work.num_examples)
    # The first call learns from all examples too.
    tracing = {name: first[name] - 1e-6 * steps[name]["cpu_microseconds"] * work.num_examples for name in kinds}
    return steps, tracing


class _Work:
    """The model, and its examples in memory and in files.

    Args:
        root: Where files may be written.
    """

    def __init__(self, root: Path) -> None:
        from trainer.input_data import TrainingData
        from trainer.transform_graph import TransformGraph

        config = load_config(Path("conf/flights.yaml"), (f"root={root}",))
        self._features, self._options = config.feature_set, config.training
        self._files = _ingested(config)
        self._graph = TransformGraph(_analysed(config, self._files, root / "graph"), self._features)
        self._data_of = functools.partial(
            TrainingData,
            batch_size=self._options.batch_size,
            validation_fraction=self._options.validation_fraction,
            seed=self._options.seed,
        )
        loaded = self.load()
        self.num_loaded = sum(loaded.file_sizes)
        self._loaded = self._data_of(loaded, self.num_loaded)
        self._ready = [self._loaded.training(epoch) for epoch in range(NUM_EPOCHS)]
        self.num_examples = NUM_EPOCHS * self._loaded.num_learned_examples

    def load(self) -> Any:
        """Read and transform the examples."""
        from trainer.examples import load_examples

        return load_examples(_records(self._files), self._graph, None)

    def inputs(self) -> dict[str, Epochs]:
        """Return what learns from all examples, by the kind of input, the one to compare with first."""
        from trainer.examples import StreamedExamples

        learner, ready = self._learner(), self._ready
        files = tuple(map(str, self._files)) * NUM_EPOCHS
        streamed = self._data_of(StreamedExamples(files, self._graph), NUM_EPOCHS * self.num_loaded)

        def learn(batches_of: Callable[[int], Any], num_epochs: int = NUM_EPOCHS) -> None:
            for epoch in range(num_epochs):
                learner.train(batches_of(epoch))

        def read() -> None:
            for _ in streamed.training(0).calls(self._options.steps_per_execution):
                pass

        return {
            "memory": lambda: learn(ready.__getitem__),
            "loaded": lambda: learn(self._loaded.training),
            "streamed": lambda: learn(streamed.training, 1),
            "reading": read,
        }

    def learning(self, **options: Any) -> Epochs:
        """Return what learns from the batches in memory, with other options of training."""
        learner, ready = self._learner(**options), self._ready

        def learn() -> None:
            for batches in ready:
                learner.train(batches)

        return learn

    def _learner(self, **options: Any) -> Any:
        from trainer.learner import Learner
        from trainer.model import build_model

        chosen = self._options.model_copy(update=options)
        return Learner(build_model(self._features, chosen), self._features, chosen)


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


def _seconds(epochs: Epochs) -> tuple[float, float]:
    """Return how long it takes, by the wall's clock and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    epochs()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
