"""Build the image's layers and run in them, as containers would, what it must run. Called by `image_check.sh`.

A container's first process is tini, its user is 10001, its root is read-only but for /tmp and the data volume, as in
`deploy/`. Not in here: how the layers are built.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tools import image_steps
from tools.build_context import context_files
from tools.dockerfile import DockerfileError, parse_dockerfile
from tools.image_steps import Image, Settings, Site
from tools.registry import parse_pip_config, uv_environment

PROJECT = Path(__file__).resolve().parent.parent
DATA = "/var/lib/perennial"
WRITABLE = ("/tmp", DATA)
# As deploy/kubernetes/watch.yaml has it.
HEALTH_PORT = 8080
WATCH = (
    "perennial watch --config conf/flights.yaml --log json --grace-seconds 5 "
    f"--set root={DATA}/flights --health-host 0.0.0.0 --health-port {HEALTH_PORT}"
).split()
START_SECONDS = 60.0
# What a pipeline's tasks import between them; a library that the image lacks is found by one of these.
IMPORTS = (
    "from tfx.components.trainer.executor import GenericExecutor; "
    "from tfx.components.transform.executor import Executor; "
    "import tensorflow, tensorflow_data_validation, tensorflow_model_analysis, ml_metadata, kfp, psycopg, pymysql; "
    "import pipeline.graph, cli.main"
)
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
COMPILED = "/tmp/pipeline.yaml"


class CheckError(Exception):
    """What an image must do and this one does not."""


class Command(NamedTuple):
    """A command, what it must show, and where it runs: the image's folder does not count."""

    words: tuple[str, ...]
    shows: str
    workdir: str = "/"


COMMANDS = (
    Command((), "Usage: perennial"),
    Command(("perennial", "kubeflow", "--help"), "compile"),
    Command(("python", "-m", "pipeline.kubeflow.task", "--help"), "--node-id"),
    Command(("python", "-c", IMPORTS), ""),
    Command(("perennial", "kubeflow", "compile", "-o", COMPILED), "", workdir="/opt/perennial"),
)


class Container(NamedTuple):
    """A root that is mounted as a container's, and the image it is of."""

    root: Path
    settings: Settings

    def start(self, words: Sequence[str], workdir: str, *, is_first: bool = True) -> "subprocess.Popen[str]":
        """Start a command as the container's first process, or beside it as a probe is."""
        settings = self.settings._replace(workdir=workdir)
        inside = image_steps.command_inside(self.root, settings, words)
        # unshare passes no signal on, but kills its child when it is killed.
        command = ["unshare", "--pid", "--fork", "--kill-child", *inside] if is_first else inside
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def output(self, command: Command) -> str:
        """Run a command to its end; return what it printed.

        Raises:
            CheckError: it fails, or does not show what it must.
        """
        words = [*self.settings.entrypoint, *(command.words or self.settings.command)]
        process = self.start(words, command.workdir)
        output, _ = process.communicate()
        if process.returncode or command.shows not in output:
            raise CheckError(
                f"{' '.join(words)!r} in {command.workdir} ended with exit code {process.returncode}. "
                f"Expected 0 and {command.shows!r} in its output; received:\n{output[-3000:]}"
            )
        return output

    def health(self) -> tuple[int, str]:
        """Run the HEALTHCHECK; return its exit code and output."""
        process = self.start(self.settings.healthcheck, self.settings.workdir, is_first=False)
        output, _ = process.communicate()
        return process.returncode, output


def main() -> int:
    """Build, check, say what was found; return the exit code."""
    work = Path(sys.argv[1])
    os.umask(0o022)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[image-check, {time.monotonic() - began:.0f}s] {text}", flush=True)

    try:
        say("deploy/Dockerfile, step by step")
        image = _built(work)
        say(f"Built: {_sizes(image)}")
        with _container(image, work) as container:
            for command in COMMANDS:
                container.output(command)
                say(f"Runs: {' '.join(command.words or container.settings.command):.90}")
            say(_check_versions(container))
            _check_health(container)
            say("HEALTHCHECK: well without a daemon and with one, ill while it hangs; SIGTERM ends it with 0")
    except (CheckError, DockerfileError) as error:
        print(f"make image-check: {error}", file=sys.stderr)
        return 1
    return 0


def _built(work: Path) -> Image:
    root = work / "root"
    # Debian's image keeps no packages either.
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n'
    )
    subprocess.run(["chroot", str(root), "apt-get", "clean"], check=True)
    files = [file for file in (work / "files").read_text().split("\0") if file]
    ignore = (PROJECT / ".dockerignore").read_text()
    home = Path.home()
    site = Site(
        project=PROJECT,
        files=tuple(context_files(ignore, files)),
        work=work,
        # What `make test-current` has downloaded already.
        caches={"/root/.cache/uv": work.parent / "trixie/root" / str(home).lstrip("/") / ".cache/uv"},
        network_files=tuple(map(Path, (work / "network-settings").read_text().splitlines())),
        environ=_passed_on(),
        arguments=dict(argument.split("=", 1) for argument in sys.argv[2:]),
    )
    base = Image((root,), Settings(), key=str((work / "made-from").stat().st_mtime_ns))
    return image_steps.build_image(site, parse_dockerfile((PROJECT / "deploy/Dockerfile").read_text()), base)


def _passed_on() -> dict[str, str]:
    """Return what pip and uv must know to reach their packages from inside."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    environ = uv_environment(parse_pip_config(listing.stdout), os.environ)
    kept = re.compile(os.environ["PASSED_ON"] + "|^UV_")
    # Folders of packages on this host are not there inside: pip ignores them, uv does not.
    return {name: value for name, value in environ.items() if kept.search(name) and name != "UV_FIND_LINKS"}


def _sizes(image: Image) -> str:
    sizes = [(folder.parent.name, image_steps.megabytes(folder)) for folder in reversed(image.folders)]
    parts = " + ".join(f"{name.replace('image', 'debian')} {size}" for name, size in sizes)
    return f"{sum(size for _, size in sizes)} MB ({parts})"


@contextlib.contextmanager
def _container(image: Image, work: Path) -> Iterator[Container]:
    user, _, group = image.settings.user.partition(":")
    with image_steps.mounted(image, work / "container") as root:
        for folder in WRITABLE:
            image_steps.mount("-t", "tmpfs", "-o", f"uid={user},gid={group}", "tmpfs", f"{root}{folder}")
        yield Container(root, image.settings)


def _check_versions(container: Container) -> str:
    """Hold what is installed against the lock."""
    locks = [(PROJECT / f"requirements/{name}.lock").read_text() for name in ("cuda", "current")]
    pins = re.findall(r"^([\w.-]+)==([^ ;\n]+)", "\n".join(locks), flags=re.MULTILINE)
    locked = {_normal(name): version for name, version in pins}
    found = json.loads(container.output(Command(("python", "-c", VERSIONS), "{")))
    others = {name: version for name, version in found.items() if locked.get(_normal(name)) != version}
    others.pop("perennial", None)
    if others:
        raise CheckError(f"Expected the versions of the locks only; received also {others}.")
    return f"Installed: {len(found) - 1} packages, each at its locked version"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_health(container: Container) -> None:
    """Ask the HEALTHCHECK before, while and after a daemon works, and while it hangs."""
    _expect_health(container, 0, "without a daemon")
    process = container.start([*container.settings.entrypoint, *WATCH], container.settings.workdir)
    try:
        _wait_until_healthy(container, process)
        first, daemon, *_ = psutil.Process(process.pid).children(recursive=True)
        daemon.suspend()
        _expect_health(container, 1, "while the daemon hangs")
        daemon.resume()
        _expect_health(container, 0, "after it went on")
        first.terminate()
    except CheckError:
        process.kill()
        raise
    output, _ = process.communicate(timeout=START_SECONDS)
    if process.returncode:
        raise CheckError(f"SIGTERM ended the daemon with {process.returncode}. Expected 0; its log:\n{output[-3000:]}")


def _wait_until_healthy(container: Container, process: "subprocess.Popen[str]") -> None:
    """Wait for a daemon that listens: before, nobody hangs who could be asked."""
    ends = time.monotonic() + START_SECONDS
    answer = container.health()
    while answer[0] and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.5)
        answer = container.health()
    if answer[0] or process.poll() is not None:
        output = process.communicate()[0] if process.poll() is not None else answer[1]
        raise CheckError(f"{' '.join(WATCH)!r} did not become healthy in {START_SECONDS:g} s:\n{output[-3000:]}")


def _expect_health(container: Container, code: int, when: str) -> None:
    received, output = container.health()
    if received != code:
        raise CheckError(f"The HEALTHCHECK {when}: expected exit code {code}; received {received}:\n{output}")


if __name__ == "__main__":
    sys.exit(main())
