"""What must be there before a run on Flink: Java, the job server of the installed Beam, and a cluster that answers.

How the job server and a cluster get here is not in here (`tools/flink.py`, `deploy/flink/`).
"""

import json
import os
import re
import shutil
import socket
import urllib.request
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError

from core.errors import ConfigError, UnavailableError
from schemas.engine import BeamOptions

# The one line of Flink that the Beam of both stacks has a job server for (2.72: 1.17 to 1.20; 2.77: 1.19 to 2.2).
FLINK_LINE = "1.20"
ANSWER_SECONDS = 10
# Where Beam's own jars say their version.
BEAM_PROPERTIES = "org/apache/beam/sdk/sdk.properties"


def cache_folder() -> Path:
    """Return where `make flink` puts what it fetches, outside of the project."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "perennial" / "flink"


def job_server_jar(options: BeamOptions) -> Path:
    """Return the jar that the config names, or the one that `make flink` fetches for the installed Beam."""
    if options.job_server_jar:
        return Path(options.job_server_jar)
    return cache_folder() / f"beam-runners-flink-{FLINK_LINE}-job-server-{version('apache-beam')}.jar"


def check_job_server(options: BeamOptions) -> None:
    """Check that nodes can start a job server that fits the installed Beam; one that runs elsewhere is not looked at.

    Raises:
        ConfigError: Java or the jar is missing, or the jar is of another version.
    """
    if options.job_endpoint:
        return
    if shutil.which("java") is None:
        raise ConfigError(
            "Beam on Flink cannot start its job server. Expected a program java on the PATH; received none. Install "
            "Java 17, or set beam.job_endpoint to a job server that runs elsewhere."
        )
    jar = job_server_jar(options)
    if not jar.is_file():
        raise ConfigError(
            f"Beam's Flink job server is not there. Expected the jar of Beam {version('apache-beam')} for Flink "
            f"{FLINK_LINE}; received no file {str(jar)!r}. Run `make flink`, or set beam.job_server_jar."
        )
    _check_version(jar)


def check_cluster(options: BeamOptions) -> None:
    """Check that the Flink cluster answers, is of the job server's line and has enough slots.

    Behind a job server that runs elsewhere the cluster may be out of reach: then it is the server that is looked for.

    Raises:
        ConfigError: the cluster is of another line, or too small: a job would wait for slots that never come.
        UnavailableError: nothing answers.
    """
    if options.job_endpoint:
        _check_listens(options.job_endpoint)
        return
    overview = _overview(options.flink_master)
    found, num_slots = str(overview.get("flink-version", "")), int(overview.get("slots-total", 0))
    if not found.startswith(f"{FLINK_LINE}."):
        raise ConfigError(
            f"The Flink cluster at {options.flink_master} does not fit Beam's job server. Expected Flink {FLINK_LINE}; "
            f"received {found or 'no version'}. Use a cluster of that line, or correct beam.flink_master."
        )
    if num_slots < options.num_workers:
        raise ConfigError(
            f"The Flink cluster at {options.flink_master} is too small. Expected at least beam.num_workers="
            f"{options.num_workers} task slots; received {num_slots} in {overview.get('taskmanagers', 0)} task "
            "managers. Start more task managers, or lower beam.num_workers."
        )


def _check_listens(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"Beam's job server does not answer. Expected it at {endpoint}; received {error}. Start it, or correct "
            "beam.job_endpoint."
        ) from error


def _overview(master: str) -> dict[str, Any]:
    url = master if re.match(r"https?://", master) else f"http://{master}"
    try:
        with urllib.request.urlopen(f"{url}/overview", timeout=ANSWER_SECONDS) as answer:
            overview: dict[str, Any] = json.load(answer)
    except (URLError, OSError, ValueError) as error:
        raise UnavailableError(
            f"The Flink cluster does not answer. Expected its REST endpoint at {url}; received {error}. Start it "
            "(`python -m tools.flink start` for one on this machine), or correct beam.flink_master."
        ) from error
    return overview


def _check_version(jar: Path) -> None:
    installed = version("apache-beam")
    try:
        with zipfile.ZipFile(jar) as archive:
            text = archive.read(BEAM_PROPERTIES).decode()
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"File {str(jar)!r} is no job server of Beam. Expected a jar with {BEAM_PROPERTIES}; received {error}. "
            "Run `make flink`, or correct beam.job_server_jar."
        ) from error
    found = re.search(r"^version=(\S+)", text, re.MULTILINE)
    if found is None or found[1] != installed:
        raise ConfigError(
            f"Beam's job server {str(jar)!r} does not fit. Expected Beam {installed}, as installed; received "
            f"{found[1] if found else text!r:.80}. Run `make flink`, or correct beam.job_server_jar."
        )
