"""Steps from memory and from a stream learn the same, in calls of any length; a loss that is no number has a step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.errors import TrainingError
from schemas.training import TrainingOptions
from trainer.batches import LoadedBatches, StreamedBatches
from trainer.learner import Learner
from trainer.model_state import assign_state, state_of

SmallLearner = Callable[..., tuple[Learner, LoadedBatches]]
TASKS = ("binary", "multiclass", "regression")


def _streamed(batches: LoadedBatches) -> StreamedBatches:
    chunks = tf.data.Dataset.from_tensor_slices(batches.columns.tensors).batch(2 * batches.batch_size)
    return StreamedBatches(chunks, batches.packing, batches.batch_size)


@pytest.mark.parametrize("task", TASKS)
def test_steps_equal_those_of_keras(task: str, small_learner: SmallLearner) -> None:
    learner, batches = small_learner(task, learning_rate=0.05)
    model, start = learner.model, state_of(learner.model)
    received = learner.train(batches)
    after = state_of(model)
    assign_state(model, start)
    expected = model.fit(batches.dataset(), shuffle=False, verbose=0).history
    assert received == pytest.approx({name: values[0] for name, values in expected.items()}, abs=1e-5)
    for path, array in state_of(model).weights.items():
        np.testing.assert_allclose(after.weights[path], array, atol=1e-5)
    validated = model.evaluate(batches.dataset(), return_dict=True, verbose=0)
    assert learner.evaluate(batches) == pytest.approx(validated, abs=1e-5)


@pytest.mark.parametrize("num_steps", [1, 3, 100])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["memory", "stream"])
def test_calls_of_any_length_learn_the_same(num_steps: int, is_streamed: bool, small_learner: SmallLearner) -> None:
    results = []
    for options in ({}, {"steps_per_execution": num_steps}):
        learner, batches = small_learner(learning_rate=0.05, **options)
        logs = learner.train(_streamed(batches) if is_streamed and options else batches)
        results.append((logs, state_of(learner.model).weights))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for path, array in results[0][1].items():
        np.testing.assert_allclose(results[1][1][path], array, atol=1e-6)


def test_another_number_of_examples_is_not_another_trace(small_learner: SmallLearner) -> None:
    learner, batches = small_learner()
    for positions in (np.arange(40), np.arange(7), np.zeros(33, np.int64)):
        learner.train(dataclasses.replace(batches, positions=positions))
        learner.evaluate(dataclasses.replace(batches, positions=positions))
    assert [function.experimental_get_tracing_count() for function in learner._traces.values()] == [1, 1]


def test_compiled_step_learns_the_same(small_learner: SmallLearner) -> None:
    plain, batches = small_learner(learning_rate=0.05)
    compiled, _ = small_learner(learning_rate=0.05, jit_compile=True)
    assert plain.train(batches) == pytest.approx(compiled.train(batches), abs=1e-5)
    for one, two in zip(plain.model.weights, compiled.model.weights, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-5)


def test_loss_that_is_not_finite_is_told_by_its_step(small_learner: SmallLearner) -> None:
    learner, batches = small_learner(steps_per_execution=2)
    floats = batches.columns.floats.numpy()
    floats[25] = np.nan
    broken = dataclasses.replace(batches, columns=dataclasses.replace(batches.columns, floats=floats))
    learner.begin_epoch(0, 4)
    with pytest.raises(TrainingError, match=r"The loss became nan at step 3 of epoch 5\. .*Lower learning_rate"):
        learner.train(broken)
    assert np.isnan(learner.evaluate(broken)["loss"])


def test_random_numbers_depend_on_seed_and_epoch_alone(small_learner: SmallLearner) -> None:
    options: dict[str, Any] = {"model": {"kind": "dnn", "hidden_units": (8,), "dropout": 0.5}}
    learner, batches = small_learner(**options)
    start = state_of(learner.model)
    losses = []
    for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 1)):
        assign_state(learner.model, start)
        learner.begin_epoch(seed, epoch)
        losses.append(learner.train(batches)["loss"])
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_defaults_call_tensorflow_rarely() -> None:
    options = TrainingOptions()
    assert (options.steps_per_execution, options.jit_compile) == (100, False)
