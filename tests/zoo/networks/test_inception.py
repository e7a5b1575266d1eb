"""The 2015 Inception's shapes, sizes and resize; tests/zoo/evaluation/test_inception.py compares it with another's."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from zoo.core.precision import computing_in
from zoo.networks.inception import Resize, inception_2015


@pytest.fixture(scope="module")
def network():
    with computing_in("mixed_bfloat16"):
        return inception_2015()


def test_it_maps_images_of_any_size_to_named_outputs(network):
    assert [tensor.name for tensor in network.inputs] == ["image"]
    assert network.inputs[0].shape == (None, None, None, 3)
    assert dict(zip(network.output_names, (tensor.shape for tensor in network.outputs), strict=True)) == {
        "features": (None, 2048),
        "logits": (None, 1008),
    }


def test_it_computes_in_full_precision_whatever_the_policy(network):
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


def test_it_has_the_papers_maps_and_the_parameters_of_torch_fidelitys(network):
    maps = {name: network.get_layer(name).output.shape[1:] for name in ("pool_1", "mixed_2.join", "mixed_7.join")}
    assert maps == {"pool_1": (35, 35, 192), "mixed_2.join": (35, 35, 288), "mixed_7.join": (17, 17, 768)}
    assert network.get_layer("mixed_10.join").output.shape[1:] == (8, 8, 2048)
    assert sum(isinstance(layer, layers.Conv2D) for layer in network.layers) == 94
    # Its state dict has 23,885,392 floats, 1,008 of them the last layer's bias, which is left out here.
    assert network.count_params() == 23_885_392 - 1_008


@pytest.mark.parametrize(("height", "width"), [(40, 23), (299, 640), (1, 2)])
def test_the_resize_of_a_plane_is_the_plane_up_to_the_last_pixel(height, width):
    """Pixel i lies at i * length / 299, no further than the last pixel; level l, 0 to 255, becomes (l - 128) / 128."""
    down, across = 100 / height, 150 / width
    levels = down * np.arange(height)[:, None] + across * np.arange(width)
    image = np.repeat(levels[None, :, :, None], 3, axis=3) / 127.5 - 1
    places = [np.minimum(np.arange(299) * length / 299, length - 1) for length in (height, width)]
    expected = (down * places[0][:, None] + across * places[1] - 128) / 128
    resized = np.asarray(Resize()(image.astype(np.float32)))
    assert resized.shape == (1, 299, 299, 3)
    np.testing.assert_allclose(resized[0], np.repeat(expected[:, :, None], 3, axis=2), atol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (299, 299), (500, 301)])
def test_the_resize_is_that_of_tensorflow_1(height, width):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.float32)
    expected = (tf.compat.v1.image.resize_bilinear(images, (299, 299)) - 128) / 128
    np.testing.assert_allclose(Resize()(images / 127.5 - 1), expected, atol=2e-6)
