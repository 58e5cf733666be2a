"""Several processes train one model; those of a cluster of one are enough for what can go wrong."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError, DataError, UnavailableError
from trainer.run_fn import run_fn
from trainer.training_record import read_training_record
from trainer.warm_start import read_base_model
from trainer.workers import REQUEST_FILE, main


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Say in the environment which workers there are, on free ports, and that this is the first; return all configs."""

    def name(num_workers: int, index: int = 0) -> list[str]:
        sockets = [socket.socket() for _ in range(num_workers)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        workers = ["{}:{}".format(*free.getsockname()) for free in sockets]
        for free in sockets:
            free.close()
        configs = [
            json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}})
            for i in range(num_workers)
        ]
        monkeypatch.setenv("TF_CONFIG", configs[index])
        return configs

    return name


@pytest.mark.slow
def test_two_workers_train_the_model_of_one(
    flights: Any, base_model: Path, fn_args: Any, cluster: Any, tmp_path: Path
) -> None:
    options = {"base": base_model, "epochs_warm": 2, "learning_rate": 0.01}
    run_fn(fn_args(flights, "alone", **options))
    _, other = cluster(2)
    together = fn_args(flights, "together", distribution="multi_worker", **options)
    pattern = str(tmp_path / "checkpoints" / "*" / REQUEST_FILE)
    second = subprocess.Popen(
        [sys.executable, "-m", "trainer.workers", "--request", pattern],
        env={**os.environ, "TF_CONFIG": other},
        stderr=subprocess.PIPE,
        text=True,
    )
    run_fn(together)
    _, logged = second.communicate(timeout=120)
    assert second.returncode == 0, logged[-2000:]
    alone, received = (read_base_model(tmp_path / name / "Format-Training", None) for name in ("alone", "together"))
    assert received.record.history[-1]["val_loss"] == pytest.approx(alone.record.history[-1]["val_loss"], abs=1e-6)
    for path, weight in alone.state.weights.items():
        np.testing.assert_allclose(received.state.weights[path], weight, atol=1e-5, err_msg=path)
    assert sorted(folder.name for folder in tmp_path.glob("*/Format-Serving/..")) == ["..", ".."]


@pytest.mark.slow
def test_worker_that_does_not_appear_ends_the_run(flights: Any, fn_args: Any, cluster: Any) -> None:
    cluster(2)
    with pytest.raises(UnavailableError, match=r"Not all workers appeared\. Expected .* within 3 seconds"):
        run_fn(fn_args(flights, "run", distribution="multi_worker", worker_timeout_seconds=3))


@pytest.mark.slow
def test_failure_is_that_of_a_single_process(flights: Any, fn_args: Any, cluster: Any, tmp_path: Path) -> None:
    cluster(1)
    arguments = fn_args(flights, "run", distribution="multi_worker")
    arguments.train_files = [str(tmp_path / "absent-*")]
    with pytest.raises(DataError, match="The train split has no files"):
        run_fn(arguments)


@pytest.mark.slow
def test_single_worker_goes_on_where_an_attempt_stopped(
    flights: Any, fn_args: Any, cluster: Any, tmp_path: Path
) -> None:
    cluster(1)
    arguments = fn_args(flights, "run", distribution="multi_worker", epochs_cold=1)
    run_fn(arguments)
    first = read_training_record(tmp_path / "run" / "Format-Training")
    arguments.serving_model_dir = str(tmp_path / "again" / "Format-Serving")
    run_fn(arguments)
    assert read_training_record(tmp_path / "again" / "Format-Training").history == first.history


def test_run_as_another_worker_than_the_first_is_refused(flights: Any, fn_args: Any, cluster: Any) -> None:
    cluster(2, index=1)
    with pytest.raises(ConfigError, match=r"Expected TF_CONFIG to make it the first; received .*'index': 1"):
        run_fn(fn_args(flights, "run", distribution="multi_worker"))


def test_worker_without_a_request_gives_up(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster(2, index=1)
    exit_code = main(["--request", str(tmp_path / "*"), "--wait-seconds", "0"])
    assert exit_code == UnavailableError.exit_code
    assert "Not available now: There is nothing to train." in capsys.readouterr().err
