"""Make `.venv/`: the lock of the stack that fits, bytecode compiled, the project itself on top.

Quick where nothing changed, mended where a lock changed, made from nothing where it was interrupted. Not
in here: choosing the stack, checking the host, reading the stamp.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools import host
from tools.registry import parse_pip_config, uv_environment
from tools.stack import SetupError, Stack, choose_stack
from tools.stamp import STAMP_NAME, Stamp, digest_files, read_stamp, write_stamp

EXIT_FAILED = 2


def set_up(root: str) -> int:
    """Bring `.venv/` up to date, say what was done, return the exit code.

    Args:
        root: Folder of the project.
    """
    try:
        _set_up(Path(root))
    except SetupError as error:
        print(f"make setup: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _set_up(root: Path) -> None:
    host.check_platform(*host.host_description())
    stack = choose_stack(host.glibc_version(), sys.version_info[:2], os.environ.get("PERENNIAL_STACK", ""))
    wanted = _wanted_stamp(root, stack)
    venv = root / ".venv"
    if _is_ready(venv, wanted):
        print(f"{stack.sentence} .venv/ is up to date.", flush=True)
        return
    print(stack.sentence, flush=True)
    host.check_prerequisites(_base_python())
    with _alone(root):
        if not _is_ready(venv, wanted):
            _install(root, venv, wanted)
    print("Ready: .venv/bin/perennial", flush=True)


def _wanted_stamp(root: Path, stack: Stack) -> Stamp:
    inputs = [_lock_file(root, stack.name), root / "requirements" / "bootstrap.txt", root / "setup.py"]
    version = ".".join(map(str, sys.version_info[:3]))
    python = f"{version} {os.path.realpath(_base_python())}"
    return Stamp(state="ready", root=str(root), python=python, stack=stack.name, digest=digest_files(inputs))


def _lock_file(root: Path, stack: str) -> Path:
    return root / "requirements" / f"{stack}.lock"


def _base_python() -> str:
    """The Python outside of any virtual environment, which outlives the removal of `.venv/`."""
    return getattr(sys, "_base_executable", "") or sys.executable


def _is_ready(venv: Path, wanted: Stamp) -> bool:
    commands = [venv / "bin" / name for name in ("python", "perennial")]
    return read_stamp(venv) == wanted and all(os.access(command, os.X_OK) for command in commands)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one set-up at a time work on this folder; the next one then finds it ready."""
    descriptor = os.open(root / "requirements", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _install(root: Path, venv: Path, wanted: Stamp) -> None:
    _prepare(venv, wanted)
    uv, environ = _fetch_uv(root, venv)
    lock = _lock_file(root, wanted.stack)
    num_packages = sum(line[:1].isalpha() for line in lock.read_text().splitlines())
    _say(3, f"Installing {num_packages} packages of {lock.relative_to(root)} and compiling them (minutes, once)")
    into = ["--python", str(venv / "bin" / "python")]
    _stream([str(uv), "pip", "sync", *into, "--compile-bytecode", "--no-progress", str(lock)], environ, root)
    _say(4, "Installing perennial itself, editable")
    editable = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", str(root)]
    _stream([str(uv), "pip", "install", *into, *editable], environ, root)
    write_stamp(venv, wanted)


def _prepare(venv: Path, wanted: Stamp) -> None:
    """Leave an environment that is marked as unfinished: the one there if it can be mended, else an empty one."""
    found = read_stamp(venv)
    _refuse_foreign(venv)
    unfinished = Stamp(**{**vars(wanted), "state": "installing"})
    if found is not None and found.can_mend(wanted):
        _say(1, "Keeping .venv/, what to install has changed")
        write_stamp(venv, unfinished)
        return
    _say(1, f"Making .venv/ with Python {wanted.python}")
    shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir()
    write_stamp(venv, unfinished)
    _run([_base_python(), "-m", "venv", "--without-pip", str(venv)], _environ_for_python())


def _refuse_foreign(venv: Path) -> None:
    if venv.is_symlink() or (venv.is_dir() and any(venv.iterdir()) and not (venv / STAMP_NAME).exists()):
        raise SetupError(f"{venv} was not made by make setup and would be replaced; move it away, then run it again.")


def _fetch_uv(root: Path, venv: Path) -> tuple[Path, dict[str, str]]:
    """Install uv beside the environment, not in it, so that `uv pip sync` leaves it alone.

    Returns:
        The command, and the environment it needs.
    """
    pip = _find_pip(venv)
    folder = venv / "uv"
    requirements = root / "requirements" / "bootstrap.txt"
    _say(2, f"Fetching uv with {' '.join(pip)}")
    shutil.rmtree(folder, ignore_errors=True)
    environ = _environ_for_python()
    arguments = ["install", "--quiet", "--no-deps", "--target", str(folder), "--requirement", str(requirements)]
    _run([*pip, *arguments], environ)
    config = parse_pip_config(_run([*pip, "config", "list"], environ))
    return folder / "bin" / "uv", uv_environment(config, os.environ)


def _find_pip(venv: Path) -> list[str]:
    """A pip that runs: this Python's own, else the one ensurepip puts in the environment."""
    if host.find_pip_source(_base_python()) == "pip":
        return [_base_python(), "-m", "pip"]
    python = str(venv / "bin" / "python")
    _run([python, "-m", "ensurepip"], _environ_for_python())
    return [python, "-m", "pip"]


def _environ_for_python() -> dict[str, str]:
    """Our environment without what would let pip look elsewhere than it is told."""
    overrides = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return uv_environment({}, os.environ) | overrides


def _say(step: int, text: str) -> None:
    print(f"[{step}/4] {text}", flush=True)


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    """Run a command that is silent as long as it works; return what it printed."""
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr, end="")
        raise _failure(command, done.returncode)
    return done.stdout


def _stream(command: list[str], environ: Mapping[str, str], folder: Path) -> None:
    """Run uv and pass on its progress, without the line that it prints for each package."""
    with subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                print(f"      {line.rstrip()}", flush=True)
    if child.returncode:
        raise _failure(command, child.returncode)


def _failure(command: list[str], code: int) -> SetupError:
    name = " ".join([Path(command[0]).name, *command[1:4]])
    return SetupError(f"'{name} ...' failed with exit code {code}, see above; mend that and run make setup again.")
