"""Both engines of the Evaluator on a model that a cycle trained, and the real flights that it was evaluated on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator import EvaluatorExecutor
from monitoring.evaluation import Evaluation, read_evaluation
from pipeline.evaluation import evaluation_config
from schemas.engine import EngineOptions
from schemas.provenance import ENGINE, EXAMPLES_COUNTS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model"),
]


@pytest.fixture
def evaluate(cycles: Callable[[str], Any], tmp_path: Path) -> Callable[[str], Evaluation]:
    """Evaluate the champion of the local cycles by an engine, on the span it was trained on."""
    pipeline = cycles("local").pipeline
    champion = pipeline.ledger.champion()

    def artifact(kind: Any, folder: Path) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        made = kind()
        made.uri = str(folder)
        return made

    def run(engine: str) -> Evaluation:
        config = pipeline.config
        examples = artifact(standard_artifacts.Examples, pipeline.folder(4))
        examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
        counts = {
            split: sum(file.num_examples for file in files) for split, files in pipeline.manifest(4).files.items()
        }
        examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps(counts))
        schema = artifact(standard_artifacts.Schema, tmp_path / "schema")
        (tmp_path / "schema" / "schema.pbtxt").write_bytes(Path(config.schema_file).read_bytes())
        evaluation = artifact(standard_artifacts.ModelEvaluation, tmp_path / engine)
        context = EvaluatorExecutor.Context(["--runner=FnApiRunner"], tmp_dir=str(tmp_path / "beam"))
        EvaluatorExecutor(context).Do(
            {
                "examples": [examples],
                "model": [artifact(standard_artifacts.Model, Path(champion.model_uri))],
                "schema": [schema],
            },
            {
                "evaluation": [evaluation],
                "blessing": [artifact(standard_artifacts.ModelBlessing, tmp_path / f"{engine}-blessing")],
            },
            {
                "eval_config": json_format.MessageToJson(evaluation_config(config.label, config.gate)),
                "label": config.label.model_dump_json(),
                "engine": EngineOptions(use=engine).model_dump_json(),
            },
        )
        assert evaluation.get_string_custom_property(ENGINE) == engine
        return read_evaluation(tmp_path / engine)

    return run


def test_both_engines_measure_the_same_of_real_flights(evaluate: Callable[[str], Evaluation]) -> None:
    ours, theirs = evaluate("in_process"), evaluate("beam")
    assert {key for key in ours.metrics if key} == {(("origin", airport),) for airport in ("EWR", "JFK", "LGA")}
    assert ours.metrics.keys() == theirs.metrics.keys()
    for key, values in theirs.metrics.items():
        assert ours.metrics[key] == pytest.approx(values, abs=1e-4)
        assert ours.metrics[key]["example_count"] == values["example_count"]
    assert (ours.is_valid, ours.failures, ours.missing_slices) == (
        theirs.is_valid, theirs.failures, theirs.missing_slices,
    )  # fmt: skip
