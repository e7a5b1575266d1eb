"""CycleGAN's translator: published parameters, sizes, and what a value depends on."""

import keras
import numpy as np
import pytest

from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.layers.normalization import InstanceNorm
from zoo.networks import cyclegan


def count_weights(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def test_the_published_network_has_its_parameters():
    """junyanz/pytorch-CycleGAN-and-pix2pix prints 11.378 M for resnet_9blocks, 7.838 M for resnet_6blocks."""
    convolutions = 49 * 3 * 64 + 9 * 64 * 128 + 9 * 128 * 256 + 9 * 256 * 128 + 9 * 128 * 64 + 49 * 64 * 3
    biases = {9: 64 + 128 + 256 + 18 * 256 + 128 + 64 + 3, 6: 64 + 128 + 256 + 12 * 256 + 128 + 64 + 3}
    for blocks, published in ((9, 11.378), (6, 7.838)):
        weights = convolutions + blocks * 2 * 9 * 256 * 256
        assert round((weights + biases[blocks]) / 1e6, 3) == published
        # Here only the last convolution has a bias: an instance norm takes the others away.
        assert count_weights(cyclegan.translator((3, 3), blocks=blocks)) == weights + 3


def test_the_number_of_blocks_is_published_for_128_and_256_pixels():
    assert [cyclegan.count_blocks((side, side, 3)) for side in (64, 128, 255, 256, 512)] == [6, 6, 6, 9, 9]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 20), (16, 16), (17, 31), (24, 32)])
def test_any_size_is_translated_to_its_own(height, width):
    network = cyclegan.translator((1, 3), width=2, blocks=1)
    images = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 1))
    translated = keras.ops.convert_to_numpy(network(images))
    assert translated.shape == (2, height, width, 3)
    assert translated.dtype == np.float32
    assert np.abs(translated).max() <= 1


def test_every_convolution_but_the_last_is_normalized_and_has_no_bias():
    network = cyclegan.translator((3, 3), width=2, blocks=2)
    convolutions = [layer for layer in network.layers if isinstance(layer, (Conv2D, Conv2DTranspose))]
    biased = [layer.name for layer in convolutions if layer.use_bias]
    assert biased == ["pixels"]
    norms = [layer for layer in network.layers if isinstance(layer, InstanceNorm)]
    assert len(norms) == len(convolutions) - 1 == 1 + 2 + 2 * 2 + 2


def test_a_row_does_not_depend_on_others():
    network = cyclegan.translator((3, 3), width=2, blocks=1)
    images = np.random.default_rng(1).uniform(-1, 1, (3, 16, 16, 3))
    together = keras.ops.convert_to_numpy(network(images, training=True))
    apart = [keras.ops.convert_to_numpy(network(images[row : row + 1], training=True))[0] for row in range(3)]
    np.testing.assert_allclose(together, apart, atol=1e-5)
