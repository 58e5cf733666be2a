"""Training on several devices: every replica takes its share of each batch, and their gradients add up to one step's.

Only gradients are computed by replica. The optimizer, clipping, metrics and callbacks see what a single device would
have computed, up to rounding, so nothing else in this package knows of replicas. (Keras' own `fit` clips gradients by
replica, before they are added, and counts a smaller last share as much as the others.) Processes that train together
are in `trainer.workers`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from schemas.training import Distribution
from trainer.cluster import read_cluster

LossOfExamples = Callable[[Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Replicas:
    """Where the shares of a batch are computed.

    Build and compile a model in `strategy.scope()`, so that each replica holds its weights; the rest, loading weights
    included, works alike inside and outside.

    Attributes:
        strategy: A `tf.distribute.Strategy`; the default one is a single replica and costs nothing.
    """

    strategy: Any

    @property
    def num_replicas(self) -> int:
        """Replicas among which a batch is shared out, in all processes together."""
        return int(self.strategy.num_replicas_in_sync)

    def loss_and_gradients(
        self, loss_of: LossOfExamples, variables: Sequence[Any], batch: Any, *, scale: Callable[[Any], Any]
    ) -> tuple[Any, Sequence[Any], Any]:
        """Return the mean loss over a batch, the gradients of the scaled loss, and the outputs.

        Call it in a traced function, outside the strategy's scope.

        Args:
            loss_of: Takes examples like those of `batch`; returns their mean loss, a scalar, and an output each, a
                tensor of which the first dimension counts examples.
            variables: By which the loss is derived.
            batch: Nested tensors of which the first dimension counts examples, the whole batch in every process.
            scale: Applied to the loss before it is derived: an optimizer's `scale_loss`.
        """
        if self.num_replicas == 1:
            return _derived(loss_of, variables, batch, scale)
        share = functools.partial(_derived_for_share, loss_of, variables, scale=scale)
        loss, gradients, output, rows = self.strategy.run(share, args=(batch,))
        total = functools.partial(self.strategy.reduce, tf.distribute.ReduceOp.SUM, axis=None)
        order = tf.argsort(self.strategy.gather(rows, axis=0))
        output = tf.gather(self.strategy.gather(output, axis=0), order)
        return total(loss), [None if gradient is None else total(gradient) for gradient in gradients], output

    def chiefs(self, numbers: Sequence[float]) -> list[float]:
        """Return the first replica's numbers in every process: two machines may differ in the last digit."""
        if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return list(numbers)

        def only_first() -> Any:
            context = tf.distribute.get_replica_context()
            is_first = tf.equal(context.replica_id_in_sync_group, 0)
            mine = tf.constant(numbers, tf.float64)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_first, mine, tf.zeros_like(mine)))

        agreed = tf.function(lambda: self.strategy.run(only_first))()
        return list(map(float, self.strategy.experimental_local_results(agreed)[0].numpy()))


@functools.cache  # a kept model belongs to the strategy under which it was built
def replicas_for(distribution: Distribution, timeout_seconds: int) -> Replicas:
    """Return the replicas that the config asks for; `multi_worker` in the first lines of a process of its own.

    Args:
        distribution: As in `schemas.training.TrainingOptions`.
        timeout_seconds: How long a step may wait for another worker's share.

    Raises:
        ConfigError: `multi_worker` without a `TF_CONFIG` that names the workers.
    """
    match distribution:
        case "none":
            return Replicas(tf.distribute.get_strategy())
        case "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))
        case "multi_worker":
            read_cluster()  # TensorFlow takes no TF_CONFIG for a cluster of one
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout_seconds)
            return Replicas(tf.distribute.MultiWorkerMirroredStrategy(communication_options=options))


def share_of(num_examples: Any, replica: Any, num_replicas: int) -> tuple[Any, Any]:
    """Return the rows of a batch that a replica computes, and their share of the batch.

    A replica for which nothing is left computes the last row with weight 0: means of nothing are not numbers.

    Example:
        >>> [(list(map(int, rows)), round(float(share), 2)) for rows, share in (share_of(3, i, 4) for i in range(4))]
        [([0], 0.33), ([1], 0.33), ([2], 0.33), ([2], 0.0)]
    """
    num_rows = tf.maximum(num_examples - replica + num_replicas - 1, 0) // num_replicas
    rows = tf.minimum(replica + num_replicas * tf.range(tf.maximum(num_rows, 1)), num_examples - 1)
    return rows, tf.cast(num_rows, tf.float32) / tf.cast(num_examples, tf.float32)


def _derived_for_share(
    loss_of: LossOfExamples, variables: Sequence[Any], batch: Any, *, scale: Callable[[Any], Any]
) -> tuple[Any, Any, Any, Any]:
    """Return a replica's part of the loss and of the gradients, and the outputs and rows that it computed."""
    context = tf.distribute.get_replica_context()
    num_examples = tf.shape(tf.nest.flatten(batch)[0])[0]
    rows, weight = share_of(num_examples, context.replica_id_in_sync_group, context.num_replicas_in_sync)
    share = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), batch)

    def weighted_loss_of(examples: Any) -> tuple[Any, Any]:
        loss, output = loss_of(examples)
        return loss * tf.cast(weight, loss.dtype), output

    loss, gradients, output = _derived(weighted_loss_of, variables, share, scale)
    num_rows = tf.where(weight > 0, tf.size(rows), 0)
    return loss, gradients, output[:num_rows], rows[:num_rows]


def _derived(
    loss_of: LossOfExamples, variables: Sequence[Any], batch: Any, scale: Callable[[Any], Any]
) -> tuple[Any, Any, Any]:
    with tf.GradientTape() as tape:
        loss, output = loss_of(batch)
        scaled = scale(loss)
    return loss, tape.gradient(scaled, [variable.value for variable in variables]), output
