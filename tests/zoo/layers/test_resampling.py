"""Filters against SciPy's `upfirdn` and Pillow; convolutions that resample against one step after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image
from scipy.signal import upfirdn

from zoo.core.precision import computing_in
from zoo.layers.equalized import EqualizedConv2D
from zoo.layers.resampling import (
    Blur,
    EqualizedBlurDownConv2D,
    EqualizedDownConv2D,
    EqualizedUpConv2D,
    PixelShuffle,
    bicubic_weights,
    resize_bicubic,
)

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(2, 8, 8, 3)).astype(np.float32)


def resample(maps, taps, up=1, down=1, before=0, after=0):
    """The authors' `upfirdn_2d`: zeros between, zeros around, a filter, every `down`th value, along both sides."""
    for axis in (1, 2):
        spread = np.zeros([up * size if dimension == axis else size for dimension, size in enumerate(maps.shape)])
        spread[(slice(None),) * axis + (slice(None, None, up),)] = maps
        padding = [(before, after) if dimension == axis else (0, 0) for dimension in range(4)]
        whole = upfirdn(taps, np.pad(spread, padding), axis=axis)  # of every overlap, partial ones included
        inner = np.arange(len(taps) - 1, whole.shape[axis] - len(taps) + 1, down)
        maps = np.take(whole, inner, axis)
    return maps


def test_a_blur_of_one_pixel_is_the_filter_and_zeros_lie_around_a_map():
    maps = np.zeros((1, 3, 3, 1), np.float32)
    maps[0, 1, 1] = 16.0
    np.testing.assert_array_equal(Blur()(maps)[0, :, :, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    maps = np.ones((1, 3, 3, 1), np.float32)
    # A corner has 9 of the 16 parts within the map, an edge 12.
    np.testing.assert_array_equal(Blur()(maps)[0, :, :, 0] * 16, [[9, 12, 9], [12, 16, 12], [9, 12, 9]])


@pytest.mark.parametrize(
    ("taps", "padding", "stride"),
    [((1, 2, 1), (1, 1), 1), ((1, 3, 3, 1), (1, 1), 2), ((1, 3, 3, 1), (2, 2), 1), ((1, 2, 4), (2, 0), 1)],
)
def test_a_blur_is_the_authors_filter(taps, padding, stride):
    mirrored = np.array(taps[::-1]) / sum(taps)  # upfirdn convolves, and what is not symmetric shows the direction
    expected = resample(MAPS, mirrored, 1, stride, *padding)
    found = Blur(taps, padding, stride)(MAPS)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_nearest_neighbors_and_a_blur_are_the_authors_upsampling():
    # upsample_2d with [1, 3, 3, 1]: a gain of 2 a side, 2 zeros before and 1 after
    expected = resample(MAPS, np.array([1, 3, 3, 1]) / 4, 2, 1, 2, 1)
    np.testing.assert_allclose(Blur()(layers.UpSampling2D(2)(MAPS)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "size"), [(1, 3), (4, 3), (7, 3), (4, 1), (4, 5)])
def test_a_convolution_that_doubles_is_nearest_neighbors_then_a_convolution(side, size):
    maps = RANDOM.normal(size=(2, side, side, 3)).astype(np.float32)
    fused, plain = EqualizedUpConv2D(5, size), EqualizedConv2D(5, size)
    larger = layers.UpSampling2D(2)(maps)
    fused(maps), plain(larger)
    weights = [RANDOM.normal(size=each.shape) for each in plain.get_weights()]
    for layer in (fused, plain):
        layer.set_weights(weights)
    np.testing.assert_allclose(fused(maps), plain(larger), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_convolution_that_halves_is_a_convolution_then_means(size):
    fused, plain = EqualizedDownConv2D(5, size), EqualizedConv2D(5, size)
    fused(MAPS), plain(MAPS)
    weights = [RANDOM.normal(size=each.shape) for each in plain.get_weights()]
    for layer in (fused, plain):
        layer.set_weights(weights)
    np.testing.assert_allclose(fused(MAPS), layers.AveragePooling2D(2)(plain(MAPS)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_a_filtered_convolution_that_halves_is_the_authors(size):
    layer = EqualizedBlurDownConv2D(5, size, gain=1.0, use_bias=False)
    found = layer(MAPS)
    # conv_downsample_2d: padding of (taps - 2) + (size - 1) zeros in all, the larger half before
    total = 2 + size - 1
    filtered = resample(MAPS, np.array([1, 3, 3, 1]) / 8, 1, 1, (total + 1) // 2, total // 2)
    kernel = layer.kernel.numpy() / (size * size * 3) ** 0.5
    expected = np.stack(
        [
            np.tensordot(filtered[:, row : row + size, column : column + size], kernel, 3)
            for row in range(0, 8, 2)
            for column in range(0, 8, 2)
        ],
        axis=1,
    ).reshape(2, 4, 4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


LAYERS = {
    "blur": Blur,
    "blur_stride": lambda: Blur((1, 3, 3, 1), (1, 1), 2),
    "up": lambda: EqualizedUpConv2D(3, 3),
    "down": lambda: EqualizedDownConv2D(3, 3),
    "blur_down": lambda: EqualizedBlurDownConv2D(3, 3),
    "blur_shortcut": lambda: EqualizedBlurDownConv2D(3, 1),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_gradient_penalty_through_it_has_the_gradient_of_finite_differences(kind, penalty_gradient):
    with computing_in("float64"):
        layer = LAYERS[kind]()
        kernel = tf.constant(RANDOM.normal(size=(3, 3, 2, 3)))
    before = tf.Variable(kernel)

    def score(images):
        x = tf.nn.conv2d(images, before, 1, "SAME")
        return tf.reduce_sum(tf.tanh(layer(tf.tanh(x))), axis=(1, 2, 3))

    images = tf.constant(RANDOM.normal(size=(2, 6, 6, 2)))
    score(images)
    variables = [before, *(each.value for each in layer.trainable_variables)]
    found, expected = penalty_gradient(score, images, variables)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_layers_that_resample_are_rebuilt_from_their_configuration():
    for make in LAYERS.values():
        layer = make()
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("kind", LAYERS)
def test_images_are_channels_last_whatever_keras_setting(kind):
    layer = LAYERS[kind]()
    expected = layer(MAPS)
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(layer(MAPS), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_filter_before_a_convolution_fits_two_kernels():
    with pytest.raises(ValueError, match="kernel_size=5: choose 1 or 3"):
        EqualizedBlurDownConv2D(4, 5)


def test_a_pixel_shuffle_is_pytorchs_with_its_channels_in_another_order():
    """torch.nn.PixelShuffle: out[c, h r + i, w r + j] = in[c r^2 + i r + j, h, w]."""
    factor, count = 2, 3
    maps = RANDOM.normal(size=(2, 4, 5, factor**2 * count)).astype(np.float32)
    expected = np.zeros((2, 4 * factor, 5 * factor, count), np.float32)
    for i in range(factor):
        for j in range(factor):
            for channel in range(count):
                expected[:, i::factor, j::factor, channel] = maps[..., channel * factor**2 + i * factor + j]
    order = np.arange(factor**2 * count).reshape(count, factor**2).T.ravel()
    np.testing.assert_array_equal(PixelShuffle(factor)(maps[..., order]), expected)
    assert np.any(PixelShuffle(factor)(maps) != expected)
    assert PixelShuffle.from_config(PixelShuffle(3).get_config()).factor == 3


def photograph(height, width, hard):
    """Gray and noisy, far from black and white; or with hard edges of both, where passes overshoot and are clipped."""
    image = np.tile(np.linspace(80, 180, width), (height, 1))[..., None] + RANDOM.normal(0, 10, (height, width, 3))
    if hard:
        image[height // 4 : height // 2, ::3], image[height // 2 :, width // 2 :] = 255, 0
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("before", "after", "hard"),
    [
        ((64, 64), (16, 16), True),
        ((64, 64), (32, 32), True),
        ((16, 16), (64, 64), True),
        # Which of the passes Pillow takes first depends on its version where sides differ.
        ((48, 20), (12, 5), False),
        ((7, 9), (14, 36), False),
    ],
)
def test_bicubic_resizing_is_pillows(before, after, hard):
    images = np.stack([photograph(*before, hard) for _ in range(3)])
    size = after[::-1]
    expected = np.stack([Image.fromarray(each).resize(size, Image.Resampling.BICUBIC) for each in images]).astype(int)
    resize = tf.function(lambda given: resize_bicubic(given, after), jit_compile=True)
    for found in (resize_bicubic(images / 127.5 - 1, after), resize(tf.constant(images / 127.5 - 1, tf.float32))):
        levels = 127.5 * (np.asarray(found, np.float64) + 1)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)  # of 8 bits
        assert np.abs(np.rint(levels) - expected).max() <= 1


def test_what_shrinks_is_filtered_before():
    images = np.stack([photograph(64, 64, hard=True)])
    found = np.rint(127.5 * (np.asarray(resize_bicubic(images / 127.5 - 1, (16, 16))) + 1))
    assert np.abs(images[:, ::4, ::4] - found).max() > 50


def test_bicubic_weights_are_keys_kernel():
    """Keys' table 1, a = -1/2, halfway between two pixels: -1/16, 9/16, 9/16, -1/16."""
    np.testing.assert_allclose(bicubic_weights(8, 8), np.eye(8), atol=1e-15)
    doubled = bicubic_weights(8, 16)
    quarter = [-0.0703125, 0.8671875, 0.2265625, -0.0234375]  # at 1/4 of a pixel
    np.testing.assert_allclose(doubled[9, 3:7], quarter)
    np.testing.assert_allclose(bicubic_weights(9, 12).sum(axis=1), 1.0)
