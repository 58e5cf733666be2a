import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from core.errors import ConfigError
from pipeline.kubeflow.conditions import condition_holds

INPUT = json_format.ParseDict(
    {
        "inputs": {
            "parameterValues": {"n": 3, "listed": '{"a": [1]}'},
            "artifacts": {
                "gate": {"artifacts": [{"uri": "minio://b/gate", "metadata": {"verdict": 2, "word": "warn"}}]}
            },
        }
    },
    pipeline_spec_pb2.ExecutorInput(),
)
VERDICT = "inputs.artifacts['gate'].artifacts[0].metadata['verdict']"


# As `expression.Condition` of kubeflow/pipelines answers them, tried with its own code.
@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("", True),
        (f"({VERDICT} < 3.0)", True),
        (f"({VERDICT} < 2.0)", False),
        (f"{VERDICT} < 3", True),
        (f"{VERDICT} == 2", True),
        (f"!({VERDICT} < 2.0)", True),
        (f"({VERDICT} < 2.0) && nobody", None),
        (f"{VERDICT} < 2.0 || inputs.artifacts['gate'].artifacts[0].metadata['word'] == 'warn'", True),
        ("inputs.artifacts['gate'].artifacts[0].uri == 'minio://b/gate'", True),
        ("inputs.parameter_values['n'] == 3", True),
        ("parseJson(inputs.parameter_values['listed'])['a'][0] == 1", True),
        ("'verdikt' in inputs.artifacts['gate'].artifacts[0].metadata", False),
        ("inputs.artifacts['gate'].artifacts[0].metadata['verdikt'] < 2.0", None),
        ("inputs.artifacts['drift'].artifacts[0].uri == ''", None),
        ("inputs.artifacts['gate'].artifacts[1].uri == ''", None),
        ("inputs.parameterValues['n'] == 3", None),
        ("inputs.artifacts['gate'].artifacts[0].metadata['word'] < 2", None),
        ("1.0 == 1", None),
        (VERDICT, None),
        ("1 +", None),
    ],
)
def test_conditions_are_answered_as_kfps_driver_answers_them(condition, holds):
    if holds is None:
        with pytest.raises(ConfigError, match="cannot be evaluated: "):
            condition_holds(condition, INPUT)
    else:
        assert condition_holds(condition, INPUT) is holds
