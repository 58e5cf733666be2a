"""Two devices, and two processes, learn what one does. In processes of their own: devices are laid out once in each."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError
from trainer.distribution import Replicas, replicas_for

BUILD = """
import json, os, sys
import keras, numpy as np, tensorflow as tf
from trainer.distribution import Replicas, replicas_for

def learn(replicas, optimizer, batch_size=17, num_examples=103):
    keras.utils.set_random_seed(1)
    with replicas.strategy.scope():
        ids, floats = keras.Input((1,), dtype="int64"), keras.Input((3,))
        embedded = keras.layers.Flatten()(keras.layers.Embedding(10, 4)(ids))
        hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([embedded, floats]))
        model = keras.Model([ids, floats], keras.layers.Dense(1, activation="sigmoid")(hidden))
        model.compile(optimizer(), "binary_crossentropy")
        model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    inputs = [random.integers(0, 10, (num_examples, 1)), random.normal(size=(num_examples, 3)).astype("float32")]
    labels = random.integers(0, 2, (num_examples, 1)).astype("float32")

    def loss_of(batch):
        inputs, label = batch
        output = model(inputs, training=True)
        loss = keras.losses.binary_crossentropy(label, output)
        return tf.reduce_mean(loss), output

    @tf.function(reduce_retracing=True)
    def step(inputs, label):
        loss, gradients, output = replicas.loss_and_gradients(
            loss_of, model.trainable_variables, (inputs, label), scale=model.optimizer.scale_loss
        )
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss, output

    losses, outputs = [], []
    for _ in range(3):
        for first in range(0, num_examples, batch_size):
            rows = slice(first, first + batch_size)
            loss, output = step([column[rows] for column in inputs], labels[rows])
            losses.append(float(loss)), outputs.append(output.numpy())
    model.save(sys.argv[1])
    weights = [np.asarray(weight) for weight in (*model.weights, *model.optimizer.variables)]
    return losses, np.concatenate(outputs), weights
"""

MIRRORED = (
    BUILD
    + """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[2]))
optimizer = lambda: keras.optimizers.Adam(0.01, clipnorm=0.1)
alone = learn(replicas_for("none", 60), optimizer)
replicas = replicas_for("mirrored", 60)
together = learn(replicas, optimizer)
saved = keras.models.load_model(sys.argv[1])
print(json.dumps({
    "num_replicas": replicas.num_replicas,
    "loss": max(abs(a - b) for a, b in zip(alone[0], together[0])),
    "output": float(np.abs(alone[1] - together[1]).max()),
    "weights": max(float(np.abs(a - b).max()) for a, b in zip(alone[2], together[2], strict=True)),
    "iterations": int(saved.optimizer.iterations),
}))
"""
)

WORKERS = (
    BUILD
    + """
replicas = replicas_for("multi_worker", 60)
optimizer = lambda: keras.optimizers.Adam(0.01, clipnorm=0.1)
together = learn(replicas, optimizer)
alone = learn(replicas_for("none", 60), optimizer)
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
np.savez(sys.argv[2], *together[2])
print(json.dumps({
    "num_replicas": replicas.num_replicas,
    "losses": together[0],
    "loss": max(abs(a - b) for a, b in zip(alone[0], together[0])),
    "weights": max(float(np.abs(a - b).max()) for a, b in zip(alone[2], together[2], strict=True)),
    "agreed": replicas.chiefs([index, 0.1]),
}))
"""
)


def _start(script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def _printed(process: "subprocess.Popen[str]") -> dict[str, Any]:
    printed, logged = process.communicate(timeout=300)
    assert process.returncode == 0, logged[-3000:]
    received: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return received


@pytest.mark.slow
def test_devices_together_learn_what_one_does(tmp_path: Path) -> None:
    # 103 examples in batches of 17: nothing of the last is left for the second device. The clipping norm binds.
    received = _printed(_start(MIRRORED, str(tmp_path / "model.keras"), "2"))
    assert received["num_replicas"] == 2
    # Rounding: what is added in another order. 21 steps of at most 0.01 a weight would show a wrong gradient at once.
    assert received["loss"] < 1e-6
    assert received["output"] < 1e-6
    assert received["weights"] < 1e-6
    assert received["iterations"] == 21


@pytest.mark.slow
def test_processes_together_learn_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        addresses = ["{}:{}".format(*free.getsockname()) for free in (one, two)]
    config = {"cluster": {"worker": addresses}}
    processes = [
        _start(
            WORKERS,
            str(tmp_path / f"{index}.keras"),
            str(tmp_path / f"{index}.npz"),
            TF_CONFIG=json.dumps({**config, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    first, second = map(_printed, processes)
    assert first["num_replicas"] == second["num_replicas"] == 2
    assert first["agreed"] == second["agreed"] == [0, 0.1]
    assert first["losses"] == second["losses"]
    weights = [list(np.load(tmp_path / f"{index}.npz").values()) for index in range(2)]
    for mine, others in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, others)
    assert first["loss"] < 1e-6
    assert first["weights"] < 1e-6


def test_workers_that_nobody_named_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(
        ConfigError, match=r"Expected the environment variable TF_CONFIG .* or set training\.distribution"
    ):
        replicas_for("multi_worker", 60)


def test_one_replica_agrees_with_itself() -> None:
    replicas: Replicas = replicas_for("none", 60)
    assert replicas.num_replicas == 1
    assert replicas.chiefs([0.1, float("inf")]) == [0.1, float("inf")]
