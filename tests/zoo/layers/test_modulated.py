"""The modulated convolution against one with a kernel of its own for each row, as the paper writes it."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import convolve2d

from zoo.core.precision import computing_in
from zoo.layers.modulated import ModulatedConv2D

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(3, 6, 6, 4)).astype(np.float32)
STYLES = RANDOM.normal(size=(3, 5)).astype(np.float32)
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16  # of sum 4: three of four values between are zeros


def built(**options):
    layer = ModulatedConv2D(2, **options)
    layer([MAPS, STYLES])
    for each in layer.trainable_variables:
        each.assign(RANDOM.normal(size=each.shape))
    return layer


def kernels_of(layer, demodulate=True):
    """w'' of each row, (rows, size, size, in, out), in float64."""
    affine = layer.affine
    scales = STYLES.astype(float) @ affine.kernel.numpy() / 5**0.5 + affine.bias.numpy()
    kernel = layer.kernel.numpy().astype(float)
    kernels = kernel * scales[:, None, None, :, None] / np.prod(kernel.shape[:3]) ** 0.5
    return kernels / np.sqrt((kernels**2).sum((1, 2, 3), keepdims=True) + 1e-8) if demodulate else kernels


def convolve(maps, kernel, up=False):
    """One row by a kernel of its own; `up`: zeros between, every overlap, and the filter."""
    outputs = []
    for number in range(kernel.shape[-1]):
        total = 0.0
        for channel in range(kernel.shape[-2]):
            taps = kernel[:, :, channel, number]
            if up:
                spread = np.zeros((11, 11))
                spread[::2, ::2] = maps[..., channel]
                total = total + convolve2d(convolve2d(spread, taps), FILTER)[2:-2, 2:-2]
            else:
                total = total + convolve2d(maps[..., channel], taps[::-1, ::-1], "same")
        outputs.append(total)
    return np.stack(outputs, axis=-1)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [True, False])
def test_it_is_the_convolution_with_a_kernel_for_each_row(demodulate, up):
    layer = built(kernel_size=3, demodulate=demodulate, up=up, gain=1.5)
    kernels = kernels_of(layer, demodulate)
    expected = np.stack([convolve(row, kernel, up) for row, kernel in zip(MAPS, kernels, strict=True)])
    assert expected.shape[1] == (12 if up else 6)
    np.testing.assert_allclose(layer([MAPS, STYLES]), 1.5 * expected, rtol=1e-4, atol=1e-4)


def test_without_demodulation_and_with_a_bias_it_is_to_rgb():
    layer = built(kernel_size=1, demodulate=False, use_bias=True)
    expected = np.einsum("rhwi,rio->rhwo", MAPS, kernels_of(layer, False)[:, 0, 0]) + layer.bias.numpy()
    np.testing.assert_allclose(layer([MAPS, STYLES]), expected, rtol=1e-4, atol=1e-5)


def test_demodulated_kernels_have_norm_one():
    layer = built(kernel_size=3)
    scales = tf.convert_to_tensor(layer.affine(STYLES)) * layer.scale
    factors = layer.factors(scales).numpy()
    kernels = layer.kernel.numpy() * scales.numpy()[:, None, None, :, None] * factors[:, None, None, None]
    np.testing.assert_allclose((kernels**2).sum((1, 2, 3)), 1.0, rtol=1e-5)


def test_white_noise_keeps_its_variance_whatever_the_style():
    maps = RANDOM.normal(size=(3, 64, 64, 16)).astype(np.float32)
    layer = ModulatedConv2D(32, 3, gain=2**0.5)
    values = layer([maps, 10 * STYLES]).numpy()[:, 1:-1, 1:-1]
    np.testing.assert_allclose(values.std((1, 2)), 2**0.5, rtol=0.1)  # of 3,844 values that overlap
    assert abs(values.std() - 2**0.5) < 0.02


def test_the_styles_scale_is_one_at_the_start():
    layer = ModulatedConv2D(2, 3)
    layer([MAPS, STYLES])
    np.testing.assert_array_equal(layer.affine(np.zeros((1, 5), np.float32)), np.ones((1, 4)))


@pytest.mark.parametrize("up", [False, True])
def test_a_gradient_penalty_through_it_has_the_gradient_of_finite_differences(up, penalty_gradient):
    """By the maps, and by the styles as path length regularization has it."""
    with computing_in("float64"):
        layer = ModulatedConv2D(3, 3, up=up)
    maps, styles = tf.constant(RANDOM.normal(size=(2, 4, 4, 3))), tf.constant(RANDOM.normal(size=(2, 5)))
    # Variables before it, so that the penalty is differentiated by its inputs, too.
    before = tf.Variable(RANDOM.normal(size=(4, 4, 3))), tf.Variable(RANDOM.normal(size=5))
    scores = [
        (maps, lambda x: tf.reduce_sum(tf.tanh(layer([tf.tanh(x * before[0]), styles * before[1]])), axis=(1, 2, 3))),
        (styles, lambda w: tf.reduce_sum(tf.tanh(layer([maps * before[0], tf.tanh(w * before[1])])), axis=(1, 2, 3))),
    ]
    for inputs, score in scores:
        score(inputs)
        variables = [*before, *(each.value for each in layer.trainable_variables)]
        found, expected = penalty_gradient(score, inputs, variables)
        assert abs(expected) > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_only_kernels_of_three_double():
    with pytest.raises(ValueError, match="kernel_size=1, up=True: choose 3"):
        ModulatedConv2D(2, 1, up=True)


def test_it_is_rebuilt_from_its_configuration():
    layer = ModulatedConv2D(2, 3, up=True, demodulate=False, gain=2.0, use_bias=True)
    assert ModulatedConv2D.from_config(layer.get_config()).get_config() == layer.get_config()
