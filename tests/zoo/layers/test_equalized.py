"""Equalized layers: the outputs' scale, the speed at which they learn, against plain formulas; pixel norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate

from zoo.layers.equalized import EqualizedConv2D, EqualizedDense, PixelNorm
from zoo.layers.growth import Growth


def test_the_outputs_keep_the_inputs_variance_times_the_gain():
    x = tf.random.stateless_normal((4000, 300), (0, 1))
    for rate in (1.0, 0.01):
        keras.utils.set_random_seed(0)
        values = EqualizedDense(64, gain=2**0.5, rate=rate)(x).numpy()
        assert abs(values.std() - 2**0.5) < 0.03  # a kernel of 19,200 numbers: its scale is off by 0.5 %
    maps = tf.random.stateless_normal((8, 32, 32, 16), (0, 1))
    inner = EqualizedConv2D(64, 3, gain=1.0)(maps).numpy()[:, 1:-1, 1:-1]
    assert abs(inner.std() - 1.0) < 0.03


def test_a_dense_layer_is_its_formula():
    layer = EqualizedDense(2, gain=3.0, rate=0.5, bias=1.0)
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    layer(x)
    kernel = layer.kernel.numpy()
    # 3 * 0.5 / sqrt(4) = 0.75; the bias is used as 1, so stored as 2
    np.testing.assert_allclose(layer(x), x @ kernel * 0.75 + 1.0, rtol=1e-6)
    np.testing.assert_array_equal(layer.bias.numpy(), [2.0, 2.0])


def test_a_convolution_is_its_formula():
    layer = EqualizedConv2D(1, 3, gain=1.0, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 1)).astype(np.float32)
    found = layer(x).numpy()[0, :, :, 0]
    expected = correlate(x[0, :, :, 0], layer.kernel.numpy()[:, :, 0, 0] / 3.0, mode="same")  # fan in 9
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_adam_moves_the_kernel_that_is_used_at_a_speed_of_its_own_scale(rate):
    """A step of Adam moves every weight by its learning rate: the kernel that is used by that times rate / sqrt(n)."""
    layer = EqualizedDense(3, gain=1.0, rate=rate)
    x = tf.random.stateless_normal((8, 100), (0, 1))
    layer(x)
    before, bias = layer.scaled_kernel().numpy(), layer.bias.numpy() * rate
    optimizer = keras.optimizers.Adam(1e-2, epsilon=1e-12)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x))
    variables = layer.trainable_variables
    optimizer.apply(tape.gradient(loss, [each.value for each in variables]), variables)
    moved = np.abs(layer.scaled_kernel().numpy() - before)
    np.testing.assert_allclose(moved, 1e-2 * rate / 10.0, rtol=1e-2)
    np.testing.assert_allclose(np.abs(layer.bias.numpy() * rate - bias), 1e-2 * rate, rtol=1e-4)


@pytest.mark.parametrize("options", [{"gain": 0.0}, {"rate": -1.0}])
def test_a_scale_that_is_not_positive_is_refused(options):
    with pytest.raises(ValueError, match="choose numbers > 0"):
        EqualizedDense(3, **options)


def test_equalized_layers_are_rebuilt_from_their_configuration():
    for layer in (EqualizedDense(3, rate=0.5, bias=2.0), EqualizedConv2D(3, 1, gain=1.0, use_bias=False)):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_pixel_norm_gives_vectors_of_mean_square_one():
    # (3, 4): mean square 12.5
    np.testing.assert_allclose(PixelNorm()(np.array([[3.0, 4.0]], np.float32)), [[3 / 12.5**0.5, 4 / 12.5**0.5]], 1e-6)
    maps = PixelNorm()(tf.random.stateless_normal((2, 4, 4, 8), (0, 1))).numpy()
    np.testing.assert_allclose((maps**2).mean(axis=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("level", "alpha"), [(0.0, 0.0), (1.0, 0.0), (1.25, 0.25), (2.0, 1.0), (3.5, 1.0)])
def test_growth_fades_from_low_to_high_and_its_ends_are_exact(level, alpha):
    low, high = tf.random.stateless_normal((2, 3, 4, 4, 3), (0, 1))
    growth = Growth()
    growth.level.assign(level)
    found = growth([low, high], level=2).numpy()
    if alpha in (0.0, 1.0):
        np.testing.assert_array_equal(found, high if alpha else low)
    np.testing.assert_allclose(found, (1 - alpha) * low + alpha * high, rtol=1e-6, atol=1e-6)
