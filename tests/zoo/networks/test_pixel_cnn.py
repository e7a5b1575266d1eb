"""PixelCNN's network: what each pixel sees; the cached sampler beside one that computes all of the image every time."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.core.precision import computing_in
from zoo.networks.pixel_cnn import (
    Encoding,
    draw_codes,
    pixel_cnn,
    pixel_cnn_sampler,
    pixel_cnn_step,
)

HEIGHT, WIDTH = 5, 7
PIXELS = list(itertools.product(range(HEIGHT), range(WIDTH)))


def randomize(network, scale=0.4, seed=0):
    random = np.random.default_rng(seed)
    for variable in network.weights:
        variable.assign(random.normal(0.0, scale, variable.shape))
    return network


def find_seen(function, inputs, change):
    """(pixels, pixels) bool: whether the output at the second pixel changes with the input at the first.

    Args:
        function: (count, HEIGHT, WIDTH, ...) -> likewise.
        inputs: (HEIGHT, WIDTH, 1).
        change: input values -> others.
    """
    changed = np.repeat(inputs[None], len(PIXELS), axis=0)
    for number, (row, column) in enumerate(PIXELS):
        changed[number, row, column] = change(changed[number, row, column])
    before, after = (ops.convert_to_numpy(function(ops.convert_to_tensor(each))) for each in (inputs[None], changed))
    return (np.abs(after - before).reshape(len(PIXELS), len(PIXELS), -1) > 1e-13).any(axis=-1)


@pytest.mark.parametrize(("levels", "ordered"), [(2, True), (2, False), (5, True), (5, False)])
def test_a_pixel_sees_all_pixels_before_it_and_neither_itself_nor_a_later_one(levels, ordered):
    """No blind spot: of all pairs of pixels, the right ones and no others."""
    with computing_in("float64"):
        network = pixel_cnn((HEIGHT, WIDTH, 1), levels, filters=16, blocks=4, kernel=3, ordered=ordered)
        randomize(network, 0.2)  # 16 filters, none saturated: no pixel's ReLUs are all shut
        codes = np.random.default_rng(1).integers(0, levels, (HEIGHT, WIDTH, 1)).astype(np.int32)
        seen = find_seen(network, codes, lambda code: (code + 1) % levels)
    count = len(PIXELS)
    np.testing.assert_array_equal(seen, np.arange(count)[:, None] < np.arange(count))


def test_the_first_block_sees_its_kernel_and_the_pixel_itself_not():
    """Of 7x7: the four rows above, seven wide, and the four pixels on the left, where they are in the image."""
    with computing_in("float64"):
        network = pixel_cnn((HEIGHT, WIDTH, 1), 2, filters=4, blocks=2, ordered=True)
        randomize(network)
        found = keras.Model(network.input, network.get_layer("block_1").output)
        codes = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH, 1)).astype(np.int32)
        vertical, _, skip = (
            find_seen(lambda codes, part=part: found(codes)[part], codes, lambda code: 1 - code) for part in range(3)
        )
    above = [[1 <= row - r <= 4 and abs(c - column) <= 3 for row, column in PIXELS] for r, c in PIXELS]
    left = [[row == r and 1 <= column - c <= 4 for row, column in PIXELS] for r, c in PIXELS]
    np.testing.assert_array_equal(vertical, above)
    np.testing.assert_array_equal(skip, np.logical_or(above, left))


def test_no_weight_is_masked():
    """Kernels hold nothing that a mask would zero, so every one of their numbers gets a gradient."""
    network = randomize(pixel_cnn((HEIGHT, WIDTH, 1), 3, filters=3, blocks=3, kernel=5, classes=2))
    assert network.get_layer("block_1").vertical.kernel.shape == (4, 7, 3, 6)
    assert network.get_layer("block_2").vertical.kernel.shape == (3, 5, 3, 6)
    assert network.get_layer("block_2").horizontal.kernel.shape == (1, 3, 3, 6)
    codes = np.random.default_rng(0).integers(0, 3, (64, HEIGHT, WIDTH, 1)).astype(np.int32)
    with tf.GradientTape() as tape:
        total = ops.sum(network([ops.convert_to_tensor(codes), ops.arange(64, dtype="int32") % 2]) ** 2)
    for variable, gradient in zip(
        network.trainable_variables,
        tape.gradient(total, [each.value for each in network.trainable_variables]),
        strict=True,
    ):
        if variable.path.startswith("block_"):  # behind them are ReLUs, which may be shut
            assert (ops.convert_to_numpy(gradient) != 0.0).all(), variable.path


@pytest.mark.parametrize(("levels", "ordered"), [(2, True), (4, False)])
def test_half_precision_ends_in_full(levels, ordered):
    with computing_in("mixed_bfloat16"):
        network = pixel_cnn((4, 4, 1), levels, filters=4, blocks=2, kernel=3, ordered=ordered)
    assert network.get_layer("block_1").compute_dtype == network.get_layer("hidden").compute_dtype == "bfloat16"
    assert network.get_layer("block_1").vertical.compute_dtype == "bfloat16"
    assert network.output.dtype == network.get_layer("logits").compute_dtype == "float32"


def test_the_encoding_comes_back_from_its_config():
    layer = Encoding(4, True)
    assert Encoding.from_config(layer.get_config()).get_config() == layer.get_config()


def test_gray_levels_enter_as_one_value_and_other_codes_one_hot():
    codes = np.arange(5, dtype=np.int32).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(Encoding(5, True)(codes)[0, :, 0, 0], [-1.0, -0.5, 0.0, 0.5, 1.0])
    np.testing.assert_array_equal(Encoding(5, False)(codes)[0, :, 0], np.eye(5))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 5, 1), {"levels": 2, "ordered": True, "blocks": 4, "kernel": 5}),
        ((2, 3, 1), {"levels": 4, "classes": 3, "blocks": 2, "kernel": 3}),  # lower than the first kernel
        ((7, 4, 1), {"levels": 3, "classes": 2, "ordered": True, "blocks": 3, "kernel": 3}),
        ((1, 4, 1), {"levels": 5, "blocks": 3, "kernel": 5}),
    ],
)
def test_cached_sampling_decides_as_recomputing_the_image_for_every_pixel_does(shape, options):
    network = randomize(pixel_cnn(shape, filters=6, **options))
    count, (height, width, _) = 16, shape
    uniform = np.random.default_rng(3).random((count, *shape)).astype(np.float32)
    labels = [ops.arange(count, dtype="int32") % options["classes"]] if "classes" in options else []
    codes, whole = np.zeros((count, *shape), np.int32), tf.function(network)
    for row, column in itertools.product(range(height), range(width)):
        inputs = [ops.convert_to_tensor(codes), *labels]
        logits = whole(inputs if labels else inputs[0])
        codes[:, row, column] = draw_codes(logits[:, row, column, 0], ops.convert_to_tensor(uniform[:, row, column]))
    assert len(np.unique(codes)) == options["levels"]

    sampler, step = pixel_cnn_sampler(network), pixel_cnn_step(network)
    run = tf.function(step)
    cached, cached_logits = tf.function(sampler)([ops.convert_to_tensor(uniform), *labels])
    np.testing.assert_array_equal(cached, codes)
    np.testing.assert_allclose(cached_logits, logits, atol=1e-5)

    image, features = (ops.zeros((count, *tensor.shape[1:])) for tensor in step.inputs[:2])
    for row in range(height):
        features, image, row_logits = run([image, features, ops.convert_to_tensor(uniform[:, row]), *labels])
        np.testing.assert_allclose(row_logits, logits[:, row], atol=1e-5)
    np.testing.assert_array_equal(image, network.get_layer("encoding")(codes))


def test_sampling_has_the_networks_own_weights():
    network = pixel_cnn((4, 4, 1), 3, filters=4, blocks=2, kernel=3)
    for made in (pixel_cnn_step(network), pixel_cnn_sampler(network)):
        assert {id(variable) for variable in made.weights} == {id(variable) for variable in network.weights}


def test_a_step_costs_as_much_at_any_row():
    """States have the same sizes in every step, of the kernel's rows and not of the image's."""
    shapes = [pixel_cnn_step(pixel_cnn((side, 4, 1), 2, 4, 3, 5, ordered=True)).inputs[1].shape for side in (4, 16)]
    assert shapes[0] == shapes[1] == (None, 2, 2, 4, 4)


def test_a_level_is_drawn_where_the_cumulative_probabilities_say():
    logits = np.log(np.repeat([[0.25, 0.5, 0.25]], 6, axis=0)).astype(np.float32)
    uniform = np.array([[0.0], [0.24], [0.26], [0.74], [0.76], [1 - 2**-24]], np.float32)
    np.testing.assert_array_equal(draw_codes(logits, uniform)[:, 0], [0, 0, 1, 1, 2, 2])
    # At the bound itself the upper level begins: cdf[k - 1] <= u < cdf[k].
    np.testing.assert_array_equal(draw_codes(np.zeros((1, 2), np.float32), np.array([[0.5]], np.float32)), [[1]])
    certain = np.array([[90.0, 0.0], [0.0, 90.0]], np.float32)
    for number in (0.0, 0.5, 1 - 2**-24):
        np.testing.assert_array_equal(draw_codes(certain, np.full((2, 1), number, np.float32))[:, 0], [0, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (4, 4, 3)}, "takes one channel"),
        ({"levels": 1}, "at least 2"),
        ({"blocks": 1}, "at least 2"),
        ({"kernel": 4}, "odd kernel"),
        ({"kernel": 1}, "odd kernel"),
        ({"filters": 0}, "1 filter or more"),
    ],
)
def test_what_no_network_can_be_made_of_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        pixel_cnn(**{"shape": (4, 4, 1), "levels": 2, **change})
