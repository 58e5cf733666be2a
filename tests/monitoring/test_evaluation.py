"""What is read from the folders that TFX's Evaluator fills."""

import pytest
from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2

from core.errors import DataError
from monitoring.evaluation import read_evaluation

# TFMA converts arrays of one element to numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model")


def test_an_evaluation_without_bounds_is_neither_valid_nor_not(evaluations):
    config = text_format.Parse(
        'model_specs { signature_name: "serving_default" label_key: "late" prediction_key: "probability" }'
        'metrics_specs { metrics { class_name: "AUC" } }',
        # TFMA 0.52 has `tfma.EvalConfig` only once TFX is imported.
        config_pb2.EvalConfig(),
    )
    evaluation = read_evaluation(evaluations.evaluate(config, "good"))
    assert evaluation.is_valid is None
    assert {slice_key: set(metrics) for slice_key, metrics in evaluation.metrics.items()} == {(): {"auc"}}


def test_a_folder_without_an_evaluation_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no evaluation\. Expected the files that TFX's Evaluator writes"):
        read_evaluation(tmp_path)
