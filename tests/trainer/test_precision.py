import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.precision import LossScale, computing_in


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_layers_compute_in_it_and_weights_are_float32(precision):
    with computing_in(precision):
        layer = keras.layers.Dense(2)
    output = layer(np.ones((3, 4), dtype=np.float32))
    assert output.dtype == precision
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_layers_made_later_are_not_concerned():
    with pytest.raises(ZeroDivisionError), computing_in("float16"):
        raise ZeroDivisionError
    assert keras.layers.Dense(2).compute_dtype == "float32"
    with computing_in("none"):
        assert keras.layers.Dense(2).compute_dtype == "float32"


@pytest.fixture
def variable():
    return keras.Variable([1.0, 1.0], name="weights")


@pytest.fixture
def scale_of(variable):
    def make(precision):
        optimizer = keras.optimizers.SGD(0.5)
        optimizer.build([variable])
        return LossScale(optimizer, precision)

    return make


def test_without_float16_the_loss_stays(scale_of):
    for precision in ("none", "bfloat16"):
        scale = scale_of(precision)
        scale.begin_epoch()
        assert float(scale.scale(tf.constant(3.0))) == 3.0


def test_step_takes_the_unscaled_gradient(scale_of, variable):
    scale = scale_of("float16")
    with tf.GradientTape() as tape:
        loss = scale.scale(2.0 * tf.reduce_sum(variable.value))
    assert float(loss) == 4.0 * 2**15
    scale.optimizer.apply_gradients([(tape.gradient(loss, variable.value), variable)])
    assert variable.numpy().tolist() == [0.0, 0.0]


def test_step_that_overflowed_is_left_out_and_the_scale_halves(scale_of, variable):
    scale = scale_of("float16")
    scale.optimizer.apply_gradients([(tf.constant([np.inf, 1.0]), variable)])
    assert variable.numpy().tolist() == [1.0, 1.0]
    assert float(scale.scale(tf.constant(1.0))) == 2.0**14
    scale.begin_epoch()
    assert float(scale.scale(tf.constant(1.0))) == 2.0**15


def test_scale_is_no_part_of_the_saved_optimizer(scale_of):
    plain, scaled = scale_of("none").optimizer, scale_of("float16").optimizer
    assert len(scaled.inner_optimizer.variables) == len(plain.variables) < len(scaled.variables)
