from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from pipeline.kubeflow.in_cluster import config_in_cluster, controller_config

VOLUME = "kubeflow.volume={claim: perennial, mount: /data}"
DATABASES = ("ledger=mysql://db/ledger", "metadata=mysql://db/metadata")
SECRETS = "kubeflow.secrets={LEDGER_URL: {secret: databases, key: ledger}}"


def test_with_a_volume_all_lies_on_it(make_config):
    config = config_in_cluster(make_config(VOLUME, *DATABASES, "root=/home/somebody/flights"))
    assert config.root == "/data/flights"
    assert config.spans_path == Path("/data/flights/spans")
    assert config.serving_path == Path("/data/flights/serving/flights")
    assert config.schema_file == "schemas/flights/schema.pbtxt"


def test_without_one_the_places_are_those_of_this_machine(make_config):
    here = make_config("serving_folder=served")
    config = config_in_cluster(here)
    assert Path(config.root).is_absolute()
    assert (config.root_path, config.serving_path) == (here.root_path, here.serving_path)
    assert Path(config.serving_folder).is_absolute()


@given(has_volume=st.booleans(), root=st.sampled_from(["", "var/x", "/var/x"]), host=st.sampled_from(["", "http://h"]))
def test_places_change_nothing_that_shapes_a_model_and_twice_is_once(make_config, has_volume, root, host):
    overrides = [f"root={root!r}", f"kubeflow.host={host!r}", *([VOLUME, *DATABASES] if has_volume else [])]
    config = make_config(*overrides)
    once = config_in_cluster(config)
    assert config_in_cluster(once) == once
    assert once.digest == config.digest
    assert controller_config(config).digest == config.digest


@pytest.mark.parametrize("key", ["ledger", "metadata"])
def test_a_reference_that_no_pod_could_follow_is_refused(key, make_config):
    config = make_config(f"{key}=env:DATABASE_URL", SECRETS)
    with pytest.raises(ConfigError, match=f"{key} is read from the environment variable 'DATABASE_URL', which no pod"):
        config_in_cluster(config)
    with pytest.raises(ConfigError, match=r"Add kubeflow.secrets.DATABASE_URL: \{secret: NAME, key: KEY\}"):
        config_in_cluster(config)


@pytest.mark.parametrize(
    "where", [SECRETS, "kubeflow.environment={LEDGER_URL: 'postgresql://db/ledger'}"], ids=str.upper
)
def test_a_reference_that_a_pod_can_follow_is_not(where, make_config):
    assert config_in_cluster(make_config("ledger=env:LEDGER_URL", where)).ledger == "env:LEDGER_URL"


def test_a_password_in_the_plain_environment_is_refused_without_repeating_it(make_config):
    config = make_config("kubeflow.environment={LEDGER_URL: 'postgresql://me:hunter2@db/ledger'}")
    with pytest.raises(ConfigError, match=r"kubeflow\.environment\.LEDGER_URL holds a password") as raised:
        config_in_cluster(config)
    assert "hunter2" not in str(raised.value)


def test_a_variable_is_set_once(make_config):
    config = make_config(SECRETS, "kubeflow.environment={LEDGER_URL: x}")
    with pytest.raises(ConfigError, match=r"both set \['LEDGER_URL'\]"):
        config_in_cluster(config)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("ledger=sqlite:///var/ledger.sqlite", "ledger names a place that no pod would have"),
        ("metadata=sqlite:////home/me/metadata.sqlite", "metadata names a place"),
        ("serving_folder=/srv/models", "serving_folder names a place.*a folder below /data"),
        ("serving_folder=/data/../srv", "serving_folder names a place"),
        ("schema_file=/home/me/schema.pbtxt", "schema_file names a place.*relative to the image's working directory"),
        ("schema_file=../schema.pbtxt", "schema_file names a place"),
    ],
)
def test_a_place_that_is_not_mounted_is_refused(override, match, make_config):
    with pytest.raises(ConfigError, match=match):
        config_in_cluster(make_config(VOLUME, *DATABASES, override))
    # Without a volume, every place of this machine is as good as it was.
    config_in_cluster(make_config(override))


@pytest.mark.parametrize(
    "override",
    [
        "ledger=sqlite:////data/ledger.sqlite",
        "ledger=postgresql://db/ledger",
        "serving_folder=/data/served",
        "schema_file=/data/schema.pbtxt",
    ],
)
def test_a_place_on_the_volume_or_elsewhere_in_the_cluster_is_not(override, make_config):
    config_in_cluster(make_config(VOLUME, *DATABASES, override))


@pytest.mark.parametrize(("key", "given"), [("ledger", DATABASES[1:]), ("metadata", DATABASES[:1])])
def test_a_file_on_a_shared_volume_must_be_asked_for(key, given, make_config):
    with pytest.raises(ConfigError, match=f"{key} is left to its default, a SQLite file.*as {key}: env:NAME"):
        config_in_cluster(make_config(VOLUME, *given))


@pytest.mark.parametrize("name", ["a" * 58, "flights-"])
def test_a_name_that_kubernetes_refuses_is_refused(name, make_config):
    with pytest.raises(ConfigError, match=f"at most 57 characters.*received name='{name}' of {len(name)}"):
        config_in_cluster(make_config(f"name={name}"))


@pytest.mark.parametrize("host", ["http://localhost:8080", "http://127.0.0.1:3000/pipeline", "http://[::1]:8080"])
def test_the_controller_does_not_look_for_the_api_in_its_own_pod(host, make_config):
    assert controller_config(make_config(f"kubeflow.host={host}")).kubeflow.host == ""


def test_the_controller_calls_the_api_where_it_is_and_runs_there(make_config):
    config = controller_config(make_config("kubeflow.host=http://ml-pipeline.kubeflow:8888", "runner=local"))
    assert (config.kubeflow.host, config.runner) == ("http://ml-pipeline.kubeflow:8888", "kubeflow")


def test_the_token_of_the_api_must_reach_the_controller(make_config):
    with pytest.raises(ConfigError, match=r"kubeflow\.token is read from the environment variable 'KFP_TOKEN'"):
        controller_config(make_config("kubeflow.token=env:KFP_TOKEN"))
