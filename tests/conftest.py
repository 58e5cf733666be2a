"""What holds for the whole suite."""

import gc
import os
import random
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


def pytest_configure() -> None:
    """Print tables as into a pipe: a test process of pytest-xdist is told the width of the terminal."""
    os.environ.pop("COLUMNS", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep tests that share a fixture of many seconds in one process, with the longest groups first.

    Not by pytest-xdist's own marks: they group nothing with pytest 9.2 (pytest-dev/pytest-xdist#1386).
    """
    config.option.loadscopereorder = False
    return Groups(config, log)


class Groups(LoadScopeScheduling):
    """Groups of tests, each for one process: a package's, and of the e2e tests a file's or those of the same cycles."""

    # Files of tests/e2e that make pipelines of their own; all others look at the three cycles of its conftest.
    WITHOUT_CYCLES = ("test_continual.py", "test_own_data.py")

    def _split_scope(self, nodeid: str) -> str:
        file = PurePath(nodeid.split("::", 1)[0])
        if file.parent.name == "e2e" and file.name in self.WITHOUT_CYCLES:
            return str(file)
        return str(file.parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the cycles, which take minutes each: what comes last should be short, or one process waits for it."""
    items.sort(key=lambda item: item.path.parent.name != "e2e")


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later garbage collection, and collect seldom, as the command does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, and why, with one line for each reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("skipped")
    for reason, num_tests in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED [{num_tests}] {reason}", yellow=True)


class Evaluations:
    """Two small models, 440 examples, and what TFMA says of them; TensorFlow is imported when they are made.

    The models score by `sigmoid(weight * x + noise)`, where `x` is 1 for label 1 and -1 for label 0: the `good` one,
    of the greater weight, ranks better. Of the examples 200 are in slice carrier=AA, 200 in UA and 40 in ZZ.
    """

    WEIGHTS = {"good": 2.0, "poor": 0.5}

    def __init__(self, root: Path) -> None:
        self.root = root
        self.examples = root / "examples"  # as an Examples artifact
        chance = random.Random(0)
        self.labels = [chance.randrange(2) for _ in range(440)]
        self.noise = [chance.gauss(0, 1.5) for _ in self.labels]
        self.carriers = ["ZZ" if row % 11 == 0 else ("AA", "UA")[row % 2] for row in range(440)]
        self._made: dict[Any, Path] = {}
        self._write_examples()
        for name, weight in self.WEIGHTS.items():
            self._save_model(name, weight)

    def model(self, name: str) -> Path:
        """Return the folder of a Model artifact."""
        return self.root / name

    def scores(self, name: str) -> Any:
        """Return a model's scores of all examples, shape `(440, 1)`."""
        import numpy as np

        logits = self.WEIGHTS[name] * (2.0 * np.array(self.labels) - 1) + np.array(self.noise)
        return 1 / (1 + np.exp(-logits[:, None]))

    def records(self) -> list[bytes]:
        """Return the examples, serialized."""
        import tensorflow as tf

        records = []
        for label, noise, carrier in zip(self.labels, self.noise, self.carriers, strict=True):
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.append(2.0 * label - 1)
            example.features.feature["noise"].float_list.value.append(noise)
            example.features.feature["late"].int64_list.value.append(label)
            example.features.feature["carrier"].bytes_list.value.append(carrier.encode())
            records.append(bytes(example.SerializeToString()))
        return records

    def evaluate(self, config: Any, model: str, *, with_examples: bool = True) -> Path:
        """Run TFMA as TFX's Evaluator does and return the folder it fills; the same evaluation is made once.

        Args:
            config: An EvalConfig.
            model: The candidate.
            with_examples: Whether there are any.
        """
        key = (config.SerializeToString(deterministic=True), model, with_examples)
        if key not in self._made:
            self._made[key] = self.root / f"evaluation-{len(self._made)}"
            self._evaluate(config, model, "eval" if with_examples else "none", self._made[key])
        return self._made[key]

    def _evaluate(self, config: Any, model: str, split: str, output: Path) -> None:
        import tensorflow_model_analysis as tfma
        from apache_beam.options.pipeline_options import PipelineOptions

        config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
        tfma.run_model_analysis(
            tfma.default_eval_shared_model(str(self.model(model) / "Format-Serving"), eval_config=config),
            config,
            data_location=str(self.examples / f"Split-{split}" / "*"),
            output_path=str(output),
            # Beam's default runner first looks for a server to download.
            pipeline_options=PipelineOptions(["--runner=FnApiRunner"]),
        )

    def _write_examples(self) -> None:
        import tensorflow as tf

        for split, records in (("eval", self.records()), ("none", [])):
            path = self.examples / f"Split-{split}" / "span-000007-a.tfrecord.gz"
            path.parent.mkdir(parents=True)
            with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
                for record in records:
                    writer.write(record)

    def _save_model(self, name: str, weight: float) -> None:
        import tensorflow as tf

        model = tf.Module()
        model.weight = tf.Variable(weight)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(examples: Any) -> Any:
            columns = {column: tf.io.FixedLenFeature([1], tf.float32) for column in ("x", "noise")}
            features = tf.io.parse_example(examples, columns)
            return {"probability": tf.sigmoid(model.weight * features["x"] + features["noise"])}

        signatures = {"serving_default": serve}
        tf.saved_model.save(model, str(self.model(name) / "Format-Serving"), signatures=signatures)


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Evaluations:
    """Return the two models, made once."""
    return Evaluations(Path(tmp_path_factory.mktemp("evaluations")))
