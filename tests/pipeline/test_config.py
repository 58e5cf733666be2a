from pathlib import Path

import pytest

from core.errors import ConfigError
from pipeline.config import load_config

FLIGHTS = Path("conf/flights.yaml")


def test_flights_config_loads_and_keeps_everything_below_its_root():
    config = load_config(FLIGHTS)
    root = Path("var/flights").absolute()
    for path in (config.spans_path, config.metadata_path, config.artifacts_path, config.serving_path, config.runs_path):
        assert path.is_relative_to(root)
    assert config.ledger_url == f"sqlite:///{root}/ledger.sqlite"


def test_override_replaces_a_nested_value():
    config = load_config(FLIGHTS, ("training.batch_size=32", "root=/tmp/elsewhere"))
    assert config.training.batch_size == 32
    assert config.root_path == Path("/tmp/elsewhere")


def test_digest_ignores_places_and_follows_content():
    base = load_config(FLIGHTS)
    assert load_config(FLIGHTS, ("root=/tmp/elsewhere", "runner=beam")).digest == base.digest
    assert load_config(FLIGHTS, ("training.batch_size=32",)).digest != base.digest


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainning.batch_size=3", r"trainning: unknown key\. Did you mean 'training'\?"),
        ("training.bach_size=3", r"training\.bach_size: unknown key\. Did you mean 'batch_size'\?"),
        ("training.model.hiden_units=[3]", r"unknown key\. Did you mean 'hidden_units'\?"),
        ("features.carrier.capcity=3", r"features\.carrier\.capcity: unknown key\. Did you mean 'capacity'\?"),
        ("features.carrier.kind=vocab", r"features\.carrier: .*'vocabulary'.*received"),
        ("training.batch_size=many", r"training\.batch_size: Input should be a valid integer.*received 'many'"),
        ("training.batch_size=0", r"training\.batch_size: Input should be greater than or equal to 1; received 0"),
        ("name=Flights_1", r"name: String should match pattern.*received 'Flights_1'"),
        ("gate.bounds=[{metric: auc, policy: superior}]", r"gate: .*at least one bound with a minimum or a maximum"),
        ("gate.bounds=[{metric: calibration, minimum: 0.5, policy: superior}]", r"policy 'superior'.*calibration"),
        ("gate.bounds=[{metric: auc, minimum: 0.5, policy: non_inferior}]", r"expected a margin above 0"),
        ("training.initialisation=hot", r"training\.initialisation: Input should be 'cold', 'warm'.*received 'hot'"),
        ("training.regularisation.distillation=1", r"training\.regularisation\.distillation: .*less than 1"),
        ("ledger=postgresql://me:secret@db/perennial", r"ledger: .*a password.*Use env:NAME"),
        ("replay.balance=spans", r"replay\.balance: Input should be 'none', 'time' or 'class'; received 'spans'"),
        ("label.name=carrier", r"features without the label"),
        ("training.learning_rate=.nan", r"training\.learning_rate: .*received nan"),
    ],
)  # fmt: skip
def test_wrong_config_names_the_path_and_the_fix(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(FLIGHTS, (override,))


def test_missing_config_suggests_the_nearest(tmp_path: Path):
    (tmp_path / "flights.yaml").write_text("name: flights")
    with pytest.raises(ConfigError, match=r"does not exist.*Did you mean '.*flights\.yaml'"):
        load_config(tmp_path / "flihgts.yaml")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "cannot be read as YAML"), ("- 1", "is not a mapping"), ("", "is not a mapping")]
)
def test_file_that_is_no_config(tmp_path: Path, text: str, message: str):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


@pytest.mark.parametrize("override", ["root", "=1", "name.x=1"])
def test_malformed_override(override: str):
    with pytest.raises(ConfigError, match=f"Override '{override}'"):
        load_config(FLIGHTS, (override,))


def test_wrong_ledger_url_does_not_show_its_password():
    with pytest.raises(ConfigError) as caught:
        load_config(FLIGHTS, ("ledger=postgresql://me:secret@db/perennial",))
    assert "secret" not in str(caught.value)


def test_ledger_url_from_the_environment_stays_out_of_the_config(monkeypatch: pytest.MonkeyPatch):
    config = load_config(FLIGHTS, ("ledger=env:LEDGER_URL",))
    with pytest.raises(ConfigError, match="environment variable 'LEDGER_URL'"):
        _ = config.ledger_url
    monkeypatch.setenv("LEDGER_URL", "postgresql://me:hunter2@db/perennial")
    assert config.ledger_url == "postgresql://me:hunter2@db/perennial"
    assert "hunter2" not in config.model_dump_json()


def test_metadata_url_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch):
    config = load_config(FLIGHTS, ("metadata=env:METADATA_URL", "root=/r"))
    with pytest.raises(ConfigError, match=r"URL of ML Metadata is missing.*'METADATA_URL'"):
        _ = config.metadata_url
    monkeypatch.setenv("METADATA_URL", "mysql://me:hunter2@db/metadata")
    assert config.metadata_url == "mysql://me:hunter2@db/metadata"
    assert load_config(FLIGHTS, ("root=/r",)).metadata_url == "sqlite:////r/metadata.sqlite"


@pytest.mark.parametrize("override", ["kubeflow={token: abc}", "kubeflow={secrets: {1A: {secret: s, key: k}}}"])
def test_kubeflow_options_hold_references_to_secrets_only(override):
    with pytest.raises(ConfigError, match=r"Use env:NAME|expected names of environment variables"):
        load_config(FLIGHTS, (override,))
