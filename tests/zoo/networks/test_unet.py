"""pix2pix' translator: published parameters, sizes, dropout, and what reaches the output past the innermost maps."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from zoo.layers.dropout import Dropout
from zoo.networks import unet


def count_weights(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def test_the_published_network_has_its_parameters():
    """junyanz/pytorch-CycleGAN-and-pix2pix prints 54.414 M for unet_256."""
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    up = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64)]
    kernels = 16 * (sum(a * b for a, b in pairwise(down)) + sum(a * b for a, b in up) + 128 * 3)
    norms = 2 * (sum(down[2:-1]) + sum(filters for _, filters in up))
    # The authors' first and innermost convolutions have no bias, though no norm follows.
    assert round((kernels + norms + 3) / 1e6, 3) == 54.414
    assert count_weights(unet.translator((3, 3))) == kernels + norms + 3 + 64 + 512


def test_dropout_is_in_the_first_three_of_eight_steps_back():
    def dropped(halvings):
        network = unet.translator((3, 3), width=1, halvings=halvings)
        return [layer.name for layer in network.layers if isinstance(layer, Dropout)]

    assert dropped(8) == ["up_7_dropout", "up_6_dropout", "up_5_dropout"]
    assert dropped(6) == ["up_5_dropout"]
    assert dropped(4) == []


def test_halvings_bring_the_image_to_one_pixel():
    sides = (4, 16, 64, 96, 256, 1024)
    assert [unet.count_halvings((side, side, 3)) for side in sides] == [2, 4, 6, 6, 8, 8]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 20), (8, 8), (17, 31)])
def test_any_size_is_translated_to_its_own(height, width):
    network = unet.translator((1, 3), width=2, halvings=3)
    images = np.random.default_rng(0).uniform(-1, 1, (2, height, width, 1))
    translated = keras.ops.convert_to_numpy(network(images))
    assert translated.shape == (2, height, width, 3)
    assert np.abs(translated).max() <= 1


def test_maps_of_every_size_are_joined():
    network = unet.translator((3, 3), width=2, halvings=4)
    joined = {layer.name: [each.name for each in layer.input] for layer in network.layers if "joined" in layer.name}
    assert sorted(joined) == ["joined_1", "joined_2", "joined_3"]
    images = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3))
    before = keras.ops.convert_to_numpy(network(images))
    network.get_layer("up_1").kernel.assign(np.zeros((4, 4, 2, 8)))  # the way through the innermost maps is cut ...
    shift = keras.ops.convert_to_numpy(network(images)) - keras.ops.convert_to_numpy(network(-images))
    assert np.abs(shift).max() > 0  # ... and the image still gets through beside it
    assert before.shape == (1, 16, 16, 3)
