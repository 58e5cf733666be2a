import pytest

from tools.registry import parse_pip_config, uv_environment


def test_environment_is_stronger_than_a_file():
    listing = "global.cert='/a.pem'\n:env:.cert='/b.pem'\nglobal.timeout='15'\n"
    assert parse_pip_config(listing) == {"cert": "/b.pem", "timeout": "15"}


def test_settings_of_other_commands_do_not_count():
    assert parse_pip_config("freeze.timeout='10'\n") == {}


def test_pip_settings_reach_uv(tmp_path):
    config = {"index-url": "https://packages.example/simple", "extra-index-url": "https://a.example\nhttps://b.example"}
    environ = uv_environment(config, {"PATH": "/bin"})
    assert environ["UV_DEFAULT_INDEX"] == "https://packages.example/simple"
    assert environ["UV_INDEX"] == "https://a.example https://b.example"


def test_what_is_set_for_uv_stays():
    assert uv_environment({"timeout": "15"}, {"UV_HTTP_TIMEOUT": "300"})["UV_HTTP_TIMEOUT"] == "300"


def test_folder_of_packages_that_does_not_exist_is_left_out(tmp_path):
    config = {"find-links": f"{tmp_path} {tmp_path}/missing"}
    assert uv_environment(config, {})["UV_FIND_LINKS"] == str(tmp_path)
    assert "UV_FIND_LINKS" not in uv_environment({"find-links": f"{tmp_path}/missing"}, {})


@pytest.mark.parametrize("name", ["PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV"])
def test_what_would_mislead_uv_is_removed(name):
    assert name not in uv_environment({}, {name: "1"})
