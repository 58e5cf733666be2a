from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from core.errors import ConfigError, SchemaError, UnavailableError
from pipeline.config import load_config
from pipeline.flink import BEAM_PROPERTIES
from pipeline.preflight import check_config, check_engine


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


FLINK = ("beam.runner=flink", "beam.flink_master=127.0.0.1:1")


def check_engine_of(*overrides: str) -> None:
    check_engine(load_config(Path("conf/flights.yaml"), overrides))


@pytest.mark.usefixtures("with_java")
@pytest.mark.parametrize("engine", ["auto", "beam"])
def test_flink_is_checked_before_a_run(engine: str):
    with pytest.raises(ConfigError, match=r"no-such\.jar"):
        check_engine_of(f"engine={engine}", *FLINK, "beam.job_server_jar=no-such.jar")


@pytest.mark.parametrize(
    "overrides",
    [("engine=beam",), ("engine=in_process", *FLINK), ("engine=beam", "runner=kubeflow", *FLINK)],
    ids=["in-memory", "not-used", "checked-by-its-tasks"],
)
def test_flink_is_not_looked_for_where_nothing_uses_it(overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    check_engine_of(*overrides)


@pytest.mark.usefixtures("with_java")
def test_cluster_is_asked_only_where_a_run_needs_it(make_jar: Callable[[dict[str, str]], Path]):
    """A span that fits in this process must not wait for a cluster that is away."""
    jar = make_jar({BEAM_PROPERTIES: f"version={version('apache-beam')}\n"})
    overrides = (*FLINK, f"beam.job_server_jar={jar}")
    check_engine_of("engine=auto", *overrides)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        check_engine_of("engine=beam", *overrides)
