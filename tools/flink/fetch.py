"""Fetches Flink and Beam's job server for it into the cache folder, and checks what came. Nothing is started here."""

import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from core.errors import ConfigError, UnavailableError
from core.files import folder_written_atomically
from pipeline.flink import FLINK_LINE, cache_folder, check_job_server, job_server_jar
from schemas.engine import BeamOptions

FLINK_VERSION = "1.20.5"
# Its source distribution on PyPI is the one package that holds Flink's own jars.
FLINK_PACKAGE = "apache-flink-libraries"
FLINK_SHA256 = "e6aee62ea1a1fe7b32e28894ad079f3f1a50a372a4caac3df52405267f4228c8"
# What a cluster needs of them; the others are for Flink's own tables and formats.
FLINK_JARS = ("flink-dist-", "log4j-")
JOB_SERVER = f"org.apache.beam:beam-runners-flink-{FLINK_LINE}-job-server:{version('apache-beam')}"
TIMEOUT_SECONDS = 1200


def fetch_flink() -> Path:
    """Return the folder of Flink's jars, fetched with pip unless it is there.

    Raises:
        UnavailableError: pip cannot fetch the package, or it is not the one that was pinned.
    """
    folder = cache_folder() / f"flink-{FLINK_VERSION}"
    if not folder.is_dir():
        with folder_written_atomically(folder) as temporary:
            requirement = temporary / "requirements.txt"
            requirement.write_text(f"{FLINK_PACKAGE}=={FLINK_VERSION} --hash=sha256:{FLINK_SHA256}\n")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
            _run([*pip, "--require-hashes", f"--requirement={requirement}", f"--dest={temporary}"])
            requirement.unlink()
            (package,) = temporary.glob("*.tar.gz")
            _take_jars(package, temporary)
            package.unlink()
    return folder


def fetch_job_server() -> Path:
    """Return Beam's job server, fetched with Maven unless it is there, in the version of the installed Beam.

    Maven's own settings say from where; it compares the repository's checksums.

    Raises:
        ConfigError: there is no Maven or no Java, or the jar is another one.
        UnavailableError: Maven cannot fetch it.
    """
    options = BeamOptions(runner="flink")
    jar = job_server_jar(options)
    if not jar.is_file():
        if shutil.which("mvn") is None:
            raise ConfigError(
                f"Beam's Flink job server cannot be fetched. Expected Maven's program mvn on the PATH; received none. "
                f"Install Maven, or put {JOB_SERVER} at {str(jar)!r} yourself."
            )
        jar.parent.mkdir(parents=True, exist_ok=True)
        # Otherwise it would remember for a day that a repository did not have it.
        maven = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", "--update-snapshots"]
        _run([*maven, "dependency:get", f"-Dartifact={JOB_SERVER}", "-Dtransitive=false"])
        _run([*maven, "dependency:copy", f"-Dartifact={JOB_SERVER}", f"-DoutputDirectory={jar.parent}"])
    check_job_server(options)
    return jar


def _take_jars(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for member in archive:
            name = Path(member.name)
            if name.parts[1:3] == ("deps", "lib") and name.name.startswith(FLINK_JARS):
                member.name = name.name
                archive.extract(member, folder, filter="data")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=cache_folder(), capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{' '.join(command[:3])} took more than {TIMEOUT_SECONDS} s. Try again.") from error
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line] or ["nothing"]
        raise UnavailableError(
            f"{command[0]} could not fetch what Flink needs. Expected exit code 0; received {done.returncode} from "
            f"{' '.join(command)!r}, which said: {said[0]:.600}. Look at its settings and at the network."
        )
