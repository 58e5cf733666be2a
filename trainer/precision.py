"""What layers compute in. Weights, optimizer, output and loss are float32 whatever this says, and so are all files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from schemas.training import Precision

_POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Let layers that are made in this block compute in `precision`; Keras keeps the policy per thread."""
    if precision == "none":
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class LossScale:
    """Keeps float16 gradients from vanishing: scales the loss, and leaves out a step whose gradients overflowed.

    The scale is no part of a model's state: it begins anew with every epoch, so that a resumed run equals one that was
    not disturbed, and a model has the same files in any precision. Without float16 it is the optimizer as it is.

    Args:
        optimizer: Built.
        precision: What the model computes in.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, precision: Precision) -> None:
        self._scaling = keras.optimizers.LossScaleOptimizer(optimizer) if precision == "float16" else None
        self.optimizer = self._scaling or optimizer
        if self._scaling is not None:
            self._scaling.build(optimizer._trainable_variables)

    def begin_epoch(self) -> None:
        """Begin with the first scale."""
        if self._scaling is not None:
            self._scaling.dynamic_scale.assign(self._scaling.initial_scale)
            self._scaling.step_counter.assign(0)

    def scale(self, loss: Any) -> Any:
        """Return the loss from which gradients are to be derived."""
        return self.optimizer.scale_loss(loss)
