"""TFX's Evaluator, with the gate's reasons written beside the metrics."""

import json
from pathlib import Path
from typing import Any

from tfx.components import Evaluator as TfxEvaluator
from tfx.components.evaluator import constants
from tfx.components.evaluator.executor import Executor
from tfx.dsl.components.base import executor_spec

from core.files import write_text_atomically
from monitoring.gate import explain_gate
from schemas.gate import GATE_REPORT_FILE
from schemas.provenance import EVALUATION_METRICS


class EvaluatorExecutor(Executor):
    """Evaluate, bless or not, and say why in words and numbers."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run TFMA, then write `gate.json` and the overall metrics as a custom property of the evaluation."""
        super().Do(input_dict, output_dict, exec_properties)
        (evaluation,) = output_dict["evaluation"]
        report = explain_gate(Path(evaluation.uri))
        write_text_atomically(Path(evaluation.uri) / GATE_REPORT_FILE, report.model_dump_json(indent=1))
        if not report.is_blessed:
            _withhold(output_dict["blessing"][0])
        evaluation.set_string_custom_property(EVALUATION_METRICS, json.dumps(report.candidate))


class Evaluator(TfxEvaluator):
    """TFX's Evaluator with our executor."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(EvaluatorExecutor)


def _withhold(blessing: Any) -> None:
    """Take back a blessing that TFMA gives when it evaluated no example at all."""
    folder = Path(blessing.uri)
    (folder / constants.BLESSED_FILE_NAME).unlink(missing_ok=True)
    write_text_atomically(folder / constants.NOT_BLESSED_FILE_NAME, "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, constants.NOT_BLESSED_VALUE)
