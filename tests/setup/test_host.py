import sys

import pytest

from tools import host
from tools.stack import SetupError


def test_everything_missing_is_named_in_one_sentence():
    sentence = host.missing_sentence(["a C compiler", "a C++ compiler", "Python.h"], "/usr/bin/python3")
    assert sentence == (
        "Missing for /usr/bin/python3: a C compiler, a C++ compiler and Python.h; parts of TFX are built from source, "
        "so on Debian or Ubuntu run: apt-get install gcc g++ python3-dev"
    )


def test_one_thing_missing_is_named_alone():
    assert host.missing_sentence(["Python.h"], "python3").startswith("Missing for python3: Python.h; ")


@pytest.mark.parametrize("variable", ["CC", "CXX"])
def test_compiler_that_is_not_there_is_missed(monkeypatch, variable):
    monkeypatch.setenv(variable, "no-such-compiler -pthread")
    assert {"CC": "a C compiler", "CXX": "a C++ compiler"}[variable] in host.missing_build_tools()


def test_compiler_without_its_headers_is_missed(monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert host.missing_build_tools() == ["a C++ compiler"]


def test_missing_compiler_stops_set_up(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SetupError, match=r"Missing for .*: a C compiler; .* apt-get install gcc"):
        host.check_prerequisites(sys.executable)


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")], ids=["mac", "arm"])
def test_other_platform_is_refused(system, machine):
    with pytest.raises(SetupError, match=f"this is {system} on {machine}"):
        host.check_platform(system, machine)


def test_glibc_is_read_on_this_host():
    assert host.glibc_version() >= (2, 28)
