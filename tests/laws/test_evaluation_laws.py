"""Laws of the evaluation in process, for any labels, scores and slices: it is what TFMA makes of them on Beam."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_model_analysis as tfma
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

from monitoring.evaluation import read_evaluation
from monitoring.tfma_files import write_evaluation
from monitoring.tfma_in_process import ScoredSplit, evaluate_split
from pipeline.evaluation import evaluation_config
from schemas.features import LabelSpec
from schemas.gate import GateOptions

NUM_CASES = 20  # in one run of Beam, each a slice
TASKS = ("binary", "regression")
# TFMA divides by a number of labels, or of examples of a class, that may be 0.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model"),
]


def _cases(task: str, seed: int) -> pd.DataFrame:
    """Return examples of many cases: of any size, of one class or both, with ties, and scores at the edges."""
    rng = np.random.default_rng(seed)
    cases = []
    for case in range(NUM_CASES):
        size = int(rng.integers(1, 40))
        scores = rng.uniform(0, 1, size).round(int(rng.integers(0, 9)))
        labels = (rng.uniform(size=size) < rng.choice([0, 0.2, 0.5, 1])).astype(np.float32)
        if task == "regression":
            scores, labels = rng.normal(0, 10.0 ** rng.integers(-3, 4), (2, size))
        cases.append(
            pd.DataFrame(
                {
                    "case": case,
                    "text": [("a", "b")[number % 2] for number in range(size)],
                    "label": labels.astype(np.float32),
                    "prediction": scores.astype(np.float32),
                }
            )
        )
    return pd.concat(cases, ignore_index=True)


def _config(task: str) -> Any:
    bounds: tuple[dict[str, Any], ...] = (
        {"metric": "mean_squared_error", "maximum": 0.3, "slices": ["case"]},
        {"metric": "example_count", "minimum": 20, "slices": ["case"]},
        {"metric": "calibration", "minimum": 0.9, "maximum": 1.1, "slices": ["case", "text"]},
        {"metric": {"binary": "accuracy", "regression": "mean_absolute_error"}[task], "minimum": 0.5},
    )
    config = evaluation_config(LabelSpec(name="label", task=task), GateOptions(bounds=bounds))
    config.model_specs[0].prediction_key = "prediction"
    return tfma.utils.update_eval_config_with_defaults(config)


def _on_beam(config: Any, examples: pd.DataFrame, folder: Path) -> None:
    # Each example has a list of values, as TFX's readers give them.
    batch = pa.RecordBatch.from_pydict({name: pa.array([[value] for value in examples[name]]) for name in examples})
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        _ = (
            pipeline
            | beam.Create([batch])
            | tfma.ExtractEvaluateAndWriteResults(eval_config=config, output_path=str(folder))
        )


def _in_process(config: Any, examples: pd.DataFrame, folder: Path) -> None:
    split = ScoredSplit(
        labels=examples["label"].to_numpy(np.float64),
        scores={"": examples[["prediction"]].to_numpy()},
        columns={"case": [[case] for case in examples["case"]], "text": [[text.encode()] for text in examples["text"]]},
    )
    folder.mkdir()
    write_evaluation(folder, config, evaluate_split(config, split), model_locations={})


@settings(
    max_examples=1, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("task", TASKS)
def test_metrics_and_failures_are_those_of_beam(task: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root, config, examples = tmp_path_factory.mktemp("law"), _config(task), _cases(task, seed)
    _on_beam(config, examples, root / "beam")
    _in_process(config, examples, root / "ours")
    theirs, ours = read_evaluation(root / "beam"), read_evaluation(root / "ours")
    assert ours.metrics.keys() == theirs.metrics.keys()
    assert len(ours.metrics) > 2 * NUM_CASES
    for key, values in theirs.metrics.items():
        assert ours.metrics[key] == pytest.approx(values, abs=1e-4, rel=1e-6, nan_ok=True), key
        assert ours.metrics[key]["example_count"] == values["example_count"]
    assert (ours.is_valid, ours.failures, ours.missing_slices) == (
        theirs.is_valid, theirs.failures, theirs.missing_slices,
    )  # fmt: skip
    assert ours.failures


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("task", TASKS)
def test_exact_metrics_are_those_of_scikit_learn(
    task: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, examples = tmp_path_factory.mktemp("law") / "ours", _cases(task, seed)
    _in_process(_config(task), examples, folder)
    metrics = read_evaluation(folder).metrics
    for case, of_case in examples.groupby("case"):
        found, labels, scores = metrics[("case", case),], of_case["label"], of_case["prediction"]
        assert found["example_count"] == len(of_case)
        assert found["mean_squared_error"] == pytest.approx(mean_squared_error(labels, scores), rel=1e-5)
        if task == "regression":
            assert found["mean_absolute_error"] == pytest.approx(mean_absolute_error(labels, scores), rel=1e-5)
        elif scores.between(0.001, 0.999).all():  # scikit-learn clips certain scores, TFMA does not
            expected = log_loss(labels, scores.astype(np.float64), labels=[0, 1])
            assert found["binary_crossentropy"] == pytest.approx(expected, rel=1e-4)
            assert found["accuracy"] == pytest.approx(np.mean((scores > 0.5) == (labels > 0.5)))
