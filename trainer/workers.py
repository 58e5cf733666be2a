"""Processes that train one model together, each on its share of every batch.

TensorFlow joins processes only before anything else was computed in them, so even the first worker is a process of its
own, which the Trainer starts and waits for. The others run the same command, wherever they are, with their own
`TF_CONFIG` and the same files in reach: `python -m trainer.workers --request 'CHECKPOINTS/*/request.json'`.
Every worker makes the same run from the same request; only what the first one writes is kept. What a replica computes
is in `trainer.distribution`.
"""

import argparse
import glob
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import core.errors
from core.errors import ConfigError, PipelineError, TrainingError, UnavailableError
from core.files import write_text_atomically
from schemas.base import Record
from schemas.training import REQUEST_KEY, TrainerRequest
from trainer.cluster import Cluster, read_cluster

REQUEST_FILE = "request.json"
FAILURE_FILE = "failure.json"
_POLL_SECONDS = 0.2
_LOG = logging.getLogger(__name__)


class WorkerRequest(Record):
    """What a worker needs of TFX's `FnArgs`, by TFX's names."""

    train_files: list[str]
    transform_graph_path: str
    base_model: str | None
    serving_model_dir: str
    model_run_dir: str
    custom_config: dict[str, Any]

    @property
    def trainer_request(self) -> TrainerRequest:
        """What the config asks for."""
        return TrainerRequest.model_validate_json(self.custom_config[REQUEST_KEY])


class _Failure(Record):
    error: str
    message: str


def train_as_first_worker(fn_args: Any) -> None:
    """Train in a process of its own as the first of the workers that `TF_CONFIG` names, and wait for it.

    Args:
        fn_args: As `trainer.run_fn.run_fn` gets them.

    Raises:
        ConfigError: `TF_CONFIG` names no workers, or another than the first here.
        UnavailableError: a worker did not appear in time, or went away.
        PipelineError: training failed; the same error as in a single process.
    """
    cluster = read_cluster()
    if not cluster.is_chief:
        raise ConfigError(
            "The Trainer runs where another worker was expected. Expected TF_CONFIG to make it the first; received "
            f"task={cluster.task.model_dump()}. Run the pipeline as the first worker, and `python -m trainer.workers` "
            "as the others."
        )
    request = WorkerRequest.model_validate({name: getattr(fn_args, name) for name in WorkerRequest.model_fields})
    folder = Path(request.trainer_request.checkpoint_dir)
    (folder / FAILURE_FILE).unlink(missing_ok=True)
    write_text_atomically(folder / REQUEST_FILE, request.model_dump_json())
    command = [sys.executable, "-m", __name__, "--request", str(folder / REQUEST_FILE), "--until-stdin-closes"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Its standard input is this process's hand: when this one dies, so does it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        exit_code = process.wait()
    if exit_code:
        raise _failure(folder / FAILURE_FILE, exit_code)


def _failure(file: Path, exit_code: int) -> PipelineError:
    try:
        failure = _Failure.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return TrainingError(
            "The process that trained as the first worker ended without saying why. Expected exit code 0; received "
            f"{exit_code}. Look at what it wrote last; -9 is often a lack of memory."
        )
    kind: type[PipelineError] = getattr(core.errors, failure.error)
    return kind(failure.message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as one of several workers and return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description="Train as one of several workers.")
    parser.add_argument(
        "--request", required=True, help="file that the Trainer writes, or a pattern: the newest counts"
    )
    parser.add_argument("--wait-seconds", type=float, default=3600, help="how long to wait for that file")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when whoever started this one does")
    options = parser.parse_args(arguments)
    if options.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        file = _awaited(options.request, options.wait_seconds)
        _train(read_cluster(), file)
    except PipelineError as error:
        print(f"{error.headline}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not by `sys.stdin`, whose lock would be held when the interpreter ends
        pass
    os._exit(1)


def _awaited(pattern: str, seconds: float) -> Path:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if files := sorted(map(Path, glob.glob(pattern)), key=lambda file: file.stat().st_mtime_ns):
            return files[-1]
        time.sleep(_POLL_SECONDS)
    raise UnavailableError(
        f"There is nothing to train. Expected a file {pattern!r} within {seconds:g} seconds; received none. "
        "Start the pipeline, or name the folder of its checkpoints."
    )


def _train(cluster: Cluster, file: Path) -> None:
    request = WorkerRequest.model_validate_json(file.read_text(encoding="utf-8"))
    failure_file = file.with_name(FAILURE_FILE) if cluster.is_chief else None
    with tempfile.TemporaryDirectory() as folder:
        if not cluster.is_chief:
            request = _in_folder(request, Path(folder))
        try:
            _run(cluster, request, failure_file)
        except PipelineError as error:
            _keep(error, failure_file)
            raise


def _run(cluster: Cluster, request: WorkerRequest, failure_file: Path | None) -> None:
    import tensorflow as tf

    from trainer.distribution import replicas_for
    from trainer.run_fn import train

    seconds = request.trainer_request.options.worker_timeout_seconds
    print(f"Waiting {seconds} seconds at most for {cluster.addresses}.", file=sys.stderr, flush=True)  # noqa: T201
    try:
        with _deadline(_absent(cluster, seconds), seconds, failure_file):
            replicas_for("multi_worker", seconds)  # kept: what `train` asks for is there
        _LOG.info("Training together: %s", ", ".join(cluster.addresses))
        train(request)
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        raise UnavailableError(
            f"Another worker went away while training. Expected {cluster.addresses} until the end; received "
            f"{error.message!r}. Look at its output; the run goes on from the last epoch when all are back."
        ) from error


def _in_folder(request: WorkerRequest, folder: Path) -> WorkerRequest:
    """Return the request of any but the first worker: it begins where that one does, and what it writes is dropped."""
    checkpoints = Path(request.trainer_request.checkpoint_dir)
    if attempts := sorted(checkpoints.glob("attempt-*")):
        shutil.copytree(attempts[-1], folder / "checkpoints" / attempts[-1].name)
    own = request.trainer_request.model_copy(update={"checkpoint_dir": str(folder / "checkpoints")})
    changes = {
        "serving_model_dir": str(folder / "model" / "Format-Serving"),
        "model_run_dir": str(folder / "run"),
        "custom_config": {**request.custom_config, REQUEST_KEY: own.model_dump_json()},
    }
    return request.model_copy(update=changes)


@contextmanager
def _deadline(error: PipelineError, seconds: float, failure_file: Path | None) -> Iterator[None]:
    """End the process if the block takes longer: TensorFlow would wait for other workers for an hour.

    It waits with Python's lock held, so no thread and no handler of Python's could end it; the kernel's alarm does.
    What is to be said then is written before.
    """
    _keep(error, failure_file)
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if failure_file is not None:
            failure_file.unlink()


def _absent(cluster: Cluster, seconds: float) -> UnavailableError:
    return UnavailableError(
        f"Not all workers appeared. Expected {cluster.addresses} within {seconds:g} seconds; received no answer from "
        "some. Start `python -m trainer.workers` for each, look whether they reach one another, or raise "
        "training.worker_timeout_seconds."
    )


def _keep(error: PipelineError, file: Path | None) -> None:
    if file is not None:
        write_text_atomically(file, _Failure(error=type(error).__name__, message=str(error)).model_dump_json())


if __name__ == "__main__":
    sys.exit(main())
