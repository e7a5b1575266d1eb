"""EM as a loss: descent at a rate of 1 assigns the target, at a lower rate it goes so far."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.losses.expectation import towards


@pytest.mark.parametrize(("rate", "share"), [(1.0, 1.0), (0.25, 1.0), (1.0, 0.75)])
def test_a_step_goes_its_share_of_the_way_to_the_target(rate: float, share: float) -> None:
    first = [np.array([1.0, -2.0]), np.array([[3.0]])]
    targets = [tf.constant([5.0, 6.0]), tf.constant([[-1.0]])]
    variables = [keras.Variable(value) for value in first]
    with tf.GradientTape() as tape:
        rows = towards(variables, targets, tf.zeros((4, 2)), share)
        mean = tf.reduce_mean(rows)
    gradients = tape.gradient(mean, [variable.value for variable in variables])
    assert rows.shape == (4,)
    for variable, value, target, gradient in zip(variables, first, targets, gradients, strict=True):
        keras.optimizers.SGD(rate).apply([gradient], [variable])
        np.testing.assert_allclose(variable.numpy(), value + rate * share * (target.numpy() - value), rtol=1e-6)


def test_targets_are_held_constant() -> None:
    variable = keras.Variable(2.0)
    with tf.GradientTape() as tape:
        loss = towards([variable], [3.0 * variable.value], tf.zeros((1,)))
    assert tape.gradient(loss, variable.value).numpy() == pytest.approx(2.0 - 6.0)
