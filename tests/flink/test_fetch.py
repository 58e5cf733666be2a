"""Beam's job server comes from Maven, and is looked at before it counts. Maven is a program of the test's own."""

import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from core.errors import ConfigError, UnavailableError
from pipeline.flink import BEAM_PROPERTIES, job_server_jar
from schemas.engine import BeamOptions
from tools.flink.fetch import JOB_SERVER, fetch_job_server


@pytest.fixture
def write_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script on the PATH, which holds nothing else; the cache folder is empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(name: str, script: str) -> None:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


@pytest.fixture
def write_maven(tmp_path: Path, write_program: Callable[[str, str], None]) -> Callable[[str], Path]:
    """Let Maven bring a jar of some version of Beam, and note what it was asked."""

    def write(beam: str) -> Path:
        jar, asked = tmp_path / "central.jar", tmp_path / "asked"
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr(BEAM_PROPERTIES, f"version={beam}\n")
        target = job_server_jar(BeamOptions()).name
        copied = f'case "$word" in -DoutputDirectory=*) /bin/cp {jar} "${{word#*=}}/{target}";; esac'
        write_program("mvn", f'echo "$@" >> {asked}\nfor word in "$@"; do {copied}; done')
        write_program("java", "")
        return asked

    return write


def test_job_server_is_fetched_once_with_its_checksum(write_maven: Callable[[str], Path]):
    asked = write_maven(version("apache-beam"))
    assert fetch_job_server() == fetch_job_server() == job_server_jar(BeamOptions())
    get, copy = asked.read_text().splitlines()
    assert f"dependency:get -Dartifact={JOB_SERVER}" in get
    assert f"dependency:copy -Dartifact={JOB_SERVER}" in copy
    assert "--strict-checksums" in get


def test_another_version_is_refused(write_maven: Callable[[str], Path]):
    write_maven("2.1.0")
    with pytest.raises(ConfigError, match=r"does not fit.*received '2\.1\.0'"):
        fetch_job_server()


def test_what_maven_says_is_handed_on(write_program: Callable[[str, str], None]):
    write_program("java", "")
    write_program("mvn", "echo '[INFO] asking'; echo '[ERROR] Could not find the artifact'; exit 1")
    with pytest.raises(
        UnavailableError, match=r"mvn could not fetch.*received 1 from 'mvn .*: \[ERROR\] Could not find"
    ):
        fetch_job_server()


def test_without_maven_the_place_of_the_jar_is_said(write_program: Callable[[str, str], None]):
    write_program("java", "")
    with pytest.raises(
        ConfigError, match=r"Expected Maven's program mvn.*or put org\.apache\.beam:beam-runners-flink-1"
    ):
        fetch_job_server()
