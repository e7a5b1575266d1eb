"""Layer norm: Keras' values, bit for bit, and the second derivatives that Keras' has wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.layers.layer_norm import LayerNorm


def build(layer: keras.layers.Layer, channels: int) -> keras.layers.Layer:
    """The layer with a scale and a shift that are not their start."""
    layer.build((None, None, None, channels))
    for variable in layer.weights:
        variable.assign(np.random.default_rng(1).normal(1.0, 0.3, variable.shape))
    return layer


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_values_are_those_of_keras_group_normalization_of_one_group(dtype):
    images = tf.cast(np.random.default_rng(0).normal(0.3, 1.7, (4, 8, 8, 16)), dtype)
    policy = "float32" if dtype == "float32" else "mixed_bfloat16"
    theirs = build(keras.layers.GroupNormalization(groups=1, epsilon=1e-5, dtype=policy), 16)
    ours = build(LayerNorm(epsilon=1e-5, dtype=policy), 16)
    np.testing.assert_array_equal(ours(images), theirs(images))
    assert [variable.name for variable in ours.weights] == [variable.name for variable in theirs.weights]


def test_its_second_derivatives_are_those_of_a_difference_of_gradients():
    draw = np.random.default_rng(0)
    x, direction, weights = (draw.normal(size=(2, 3, 3, 2)) for _ in range(3))
    layer = build(LayerNorm(epsilon=1e-5, dtype="float64"), 2)

    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = tf.reduce_sum(weights * layer(x) ** 3)
        return tape.gradient(output, x)

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        along = tf.reduce_sum(gradient(x) * direction)
    h = 1e-5
    expected = (gradient(x + h * direction) - gradient(x - h * direction)) / (2 * h)  # the Hessian is symmetric
    np.testing.assert_allclose(tape.gradient(along, x), expected, rtol=1e-6, atol=1e-7)
