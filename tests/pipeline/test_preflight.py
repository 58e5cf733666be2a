from pathlib import Path

import pytest

from core.errors import ConfigError, SchemaError
from pipeline.config import load_config
from pipeline.preflight import check_config


def check(*overrides: str) -> None:
    check_config(load_config(Path("conf/flights.yaml"), overrides))


def test_flights_pass():
    check()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("features.carier={kind: hashed}", r"Column 'carier' .* not in the schema .*Did you mean 'carrier'\?"),
        ("label.name=lat", r"Column 'lat' of the config is not in the schema .*Did you mean 'late'\?"),
        ("preprocessing_fn=transform.preprocessing:preprocesing_fn", r"Did you mean 'preprocessing_fn'\?"),
        ("training.model={kind: custom, function: no_such_module:f}", r"no_such_module"),
    ],
)
def test_names_that_lead_nowhere(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        check(override)


def test_features_of_an_own_preprocessing_fn_are_no_columns():
    check("preprocessing_fn=transform.preprocessing:preprocessing_fn", "features={made_up: {kind: numeric}}")


def test_missing_schema():
    with pytest.raises(SchemaError, match="cannot be read"):
        check("schema_file=no/such.pbtxt")
