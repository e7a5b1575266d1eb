"""Padding by reflection beside NumPy's, at sizes that are known when a network is built and at free ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.layers.padding import CropLike, PadToMultiple, ReflectionPadding2D


def maps(height, width):
    return np.random.default_rng(height * 100 + width).normal(size=(2, height, width, 3)).astype(np.float32)


def free(layer):
    """The layer within a graph that does not know the sides."""
    function = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    return lambda inputs: function(tf.constant(inputs)).numpy()


@pytest.mark.parametrize("padding", [1, 3])
def test_reflection(padding):
    inputs, sides = maps(5, 4), [(padding, padding)] * 2
    expected = np.pad(inputs, [(0, 0), *sides, (0, 0)], mode="reflect")
    np.testing.assert_array_equal(ReflectionPadding2D(padding)(inputs), expected)


SIZES = [(1, 1), (1, 5), (2, 3), (4, 4), (5, 7), (8, 12), (13, 3), (16, 17)]


@pytest.mark.parametrize(("multiple", "least"), [(4, 1), (4, 16), (8, 8)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_maps_are_continued_to_a_multiple(multiple, least, height, width):
    inputs, layer = maps(height, width), PadToMultiple(multiple, least)
    after = [max(-(-side // multiple) * multiple, -(-least // multiple) * multiple) - side for side in (height, width)]
    expected = np.pad(inputs, [(0, 0), *((0, count) for count in after), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(layer(inputs), expected)
    np.testing.assert_array_equal(free(layer)(inputs), expected)
    assert layer.compute_output_shape(inputs.shape) == expected.shape


def test_what_is_a_multiple_costs_nothing():
    graph = tf.function(PadToMultiple(4, 8)).get_concrete_function(tf.TensorSpec((None, 8, 12, 3))).graph
    assert {operation.type for operation in graph.get_operations()} <= {"Placeholder", "Identity", "NoOp"}


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_cropping_undoes_padding(height, width):
    image = keras.Input((None, None, 3))
    network = keras.Model(image, CropLike()([PadToMultiple(8)(image), image]))
    inputs = maps(height, width)
    np.testing.assert_array_equal(network(inputs), inputs)
    assert network.output_shape == (None, None, None, 3)


def test_configurations():
    for layer in (ReflectionPadding2D(3), PadToMultiple(4, 16), CropLike()):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
