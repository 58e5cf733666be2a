import pytest

from tools import install
from tools.stack import SetupError
from tools.stamp import Stamp, write_stamp

WANTED = Stamp(state="ready", root="/project", python="3.11.2 /usr/bin/python3.11", stack="compat", digest="abc")


@pytest.fixture
def venv(tmp_path):
    """An environment with its two commands, but without a stamp."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "perennial"):
        (folder / "bin" / name).touch(mode=0o755)
    return folder


def test_second_set_up_has_nothing_to_do(venv):
    write_stamp(venv, WANTED)
    assert install._is_ready(venv, WANTED)


def test_interrupted_environment_is_not_ready(venv):
    write_stamp(venv, Stamp(**{**vars(WANTED), "state": "installing"}))
    assert not install._is_ready(venv, WANTED)


def test_environment_without_its_command_is_not_ready(venv):
    write_stamp(venv, WANTED)
    (venv / "bin" / "perennial").unlink()
    assert not install._is_ready(venv, WANTED)


def test_environment_of_someone_else_is_not_replaced(venv):
    with pytest.raises(SetupError, match=r"was not made by make setup .* move it away"):
        install._refuse_foreign(venv)


def test_empty_or_missing_environment_is_no_obstacle(tmp_path):
    install._refuse_foreign(tmp_path / ".venv")
    (tmp_path / ".venv").mkdir()
    install._refuse_foreign(tmp_path / ".venv")


def test_failing_command_is_one_sentence_with_its_output(capsys):
    with pytest.raises(SetupError, match=r"'sh -c echo broken >&2; exit 3 \.\.\.' failed with exit code 3"):
        install._run(["sh", "-c", "echo broken >&2; exit 3"], {})
    assert "broken" in capsys.readouterr().err


def test_lines_for_single_packages_are_left_out(capsys, tmp_path):
    install._stream(
        ["sh", "-c", "echo ' + numpy==1.26.4' >&2; echo 'Installed 1 package' >&2"], {"PATH": "/bin"}, tmp_path
    )
    assert capsys.readouterr().out == "      Installed 1 package\n"
