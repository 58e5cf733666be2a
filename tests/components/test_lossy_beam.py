"""A runner of Beam that reports success and loses data, as some do, is found out by what the nodes wrote."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tfx.components.evaluator.executor import Executor
from tfx.types import standard_artifacts

from components.evaluator import EvaluatorExecutor
from core.errors import DataError
from pipeline.evaluation import evaluation_config
from schemas.features import LabelSpec
from schemas.gate import GateOptions, MetricBound
from schemas.provenance import EXAMPLES_COUNTS

NUM_EXAMPLES = 440  # of `evaluations`
CONFIG = evaluation_config(LabelSpec(name="late"), GateOptions(bounds=(MetricBound(metric="auc", minimum=0.1),)))


@pytest.fixture
def evaluate(
    evaluations: Any, make_artifact: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Path], None]], None]:
    """Run our executor on Beam, with what Beam writes made by a function."""

    def run(write: Callable[[Path], None]) -> None:
        def do(_: Any, inputs: Any, outputs: Any, __: Any) -> None:
            write(Path(outputs["evaluation"][0].uri))

        monkeypatch.setattr(Executor, "Do", do)
        examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
        examples.uri, model.uri = str(evaluations.examples), str(evaluations.model("good"))
        examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps({"train": 1, "eval": NUM_EXAMPLES}))
        evaluation = make_artifact(standard_artifacts.ModelEvaluation, "evaluation")
        parameters = {"engine": '{"use": "beam"}', "eval_config": json_format.MessageToJson(CONFIG)}
        EvaluatorExecutor(EvaluatorExecutor.Context([])).Do(
            {"examples": [examples], "model": [model]}, {"evaluation": [evaluation]}, parameters
        )

    return run


@pytest.mark.slow
def test_evaluation_of_everything_passes(evaluations: Any, evaluate: Callable[..., None]):
    whole = evaluations.evaluate(CONFIG, "good")
    evaluate(lambda folder: shutil.copytree(whole, folder, dirs_exist_ok=True))


@pytest.mark.slow
def test_evaluation_of_nothing_is_refused(evaluations: Any, evaluate: Callable[..., None]):
    empty = evaluations.evaluate(CONFIG, "good", with_examples=False)
    with pytest.raises(DataError, match=r"Evaluator \(beam\) lost or doubled .*'eval': 440}; received {'eval': 0}"):
        evaluate(lambda folder: shutil.copytree(empty, folder, dirs_exist_ok=True))


def test_evaluation_that_was_never_written_is_refused(evaluate: Callable[..., None]):
    with pytest.raises(DataError, match=r"evaluation"):
        evaluate(lambda folder: None)


@pytest.mark.slow
def test_evaluation_that_is_half_written_is_refused(evaluations: Any, evaluate: Callable[..., None]):
    def write(folder: Path) -> None:
        shutil.copytree(evaluations.evaluate(CONFIG, "good"), folder, dirs_exist_ok=True)
        (folder / "beam-temp-metrics-1f").mkdir()

    with pytest.raises(DataError, match=r"Evaluator \(beam\) did not finish"):
        evaluate(write)
