"""SN-GAN's residual pair: the published sizes, every kernel of D at norm 1, and both networks written out in NumPy."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from zoo.core.precision import computing_in
from zoo.layers.spectral_norm import SpectralNorm
from zoo.networks import convolutional, residual

WEIGHTED = (layers.Dense, layers.Conv2D)
SPECTRAL = [
    lambda: residual.discriminator((16, 16, 1), 4),
    lambda: convolutional.discriminator((16, 16, 1), 4, norm="spectral"),
]
SHAPES = [(16, 16, 1), (32, 32, 3), (64, 64, 1)]


def parameters(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def random_images(rows, shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, *shape)).astype(np.float32)


def shake(network, seed=0):
    """Random weights of every kind, biases and norms included; variances and scales stay positive."""
    random = np.random.default_rng(seed)
    for variable in network.variables:
        numbers = random.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(numbers) + 0.1 if variable.name in ("gamma", "moving_variance") else numbers)


def spectral_layers(network):
    return {layer.name: layer for layer in network.layers if isinstance(layer, SpectralNorm)}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_turns_a_named_latent_into_a_named_image_in_range(shape):
    network = residual.generator(shape, latent_dim=5, width=4)
    assert ([tensor.name for tensor in network.inputs], network.output_names) == (["latent"], ["image"])
    pixels = network.get_layer("pixels")
    pixels.set_weights([1000 * pixels.kernel, pixels.bias])  # what comes before tanh lies far out
    images = ops.convert_to_numpy(network(np.random.default_rng(0).normal(size=(3, 5)), training=True))
    assert (images.shape, images.dtype) == ((3, *shape), np.float32)
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_a_discriminator_turns_a_named_image_into_one_unbounded_logit(shape):
    network = residual.discriminator(shape, width=4)
    assert ([tensor.name for tensor in network.inputs], network.output_names) == (["image"], ["logit"])
    images = random_images(3, shape)
    before = ops.convert_to_numpy(network(images))
    assert (before.shape, before.dtype) == ((3, 1), np.float32)
    # A bias adds the same to every map of the last block; far above zero no ReLU cuts, and 64 pixels are summed.
    head, last = network.get_layer("logit"), network.get_layer("plain_2_convolution_2")
    logits = []
    for lift in (1e4, 3e4):
        last.layer.bias.assign(lift * np.ones(4))
        logits.append(ops.convert_to_numpy(network(images)))
    slope = 64 * np.sum(head.normalized_kernel())
    np.testing.assert_allclose(logits[1] - logits[0], np.full((3, 1), 2e4 * slope), rtol=1e-4)


@pytest.mark.parametrize(("size", "ups", "downs"), [(16, [8, 16], [8]), (64, [8, 16, 32, 64], [32, 16, 8])])
def test_other_sizes_add_or_leave_out_blocks(size, ups, downs):
    def blocks(network):
        return [(layer.name, layer.output.shape[1:]) for layer in network.layers if isinstance(layer, layers.Add)]

    assert blocks(residual.generator((size, size, 1), 5, 4)) == [(f"up_{side}", (side, side, 4)) for side in ups]
    plain = [("plain_1", (8, 8, 4)), ("plain_2", (8, 8, 4))]
    expected = [(f"down_{side}", (side, side, 4)) for side in downs] + plain
    assert blocks(residual.discriminator((size, size, 1), 4)) == expected


def test_the_published_networks_for_cifar_have_their_parameters():
    """arXiv:1802.05957, table 4: 128 latents, 256 channels in G, 128 in D, 32x32 color."""
    dense = 128 * 4 * 4 * 256 + 4 * 4 * 256
    block = 2 * 9 * 256 * 256 + 256 * 256 + 2 * (2 * 256)  # two 3x3, one 1x1, two batch norms with scale and shift
    end = 2 * 256 + 9 * 256 * 3 + 3
    assert dense + 3 * block + end == 4_274_435
    # The authors' code has 3 * 3 * 256 more, the blocks' biases, which the batch norms that follow take away.
    assert parameters(residual.generator((32, 32, 3), 128)) == 4_274_435

    first = (9 * 3 + 1) * 128 + (9 * 128 + 1) * 128 + (3 + 1) * 128
    down = 2 * (9 * 128 + 1) * 128 + (128 + 1) * 128
    plain = 2 * (9 * 128 + 1) * 128
    assert first + down + 2 * plain + 128 == 1_053_824
    assert parameters(residual.discriminator((32, 32, 3))) == 1_053_824


def test_every_kernel_of_the_discriminator_is_wrapped_and_none_of_the_generator():
    generator, discriminator = residual.generator((32, 32, 1), 5, 4), residual.discriminator((32, 32, 1), 4)
    kernels = [variable for variable in discriminator.trainable_variables if variable.name == "kernel"]
    wrapped = spectral_layers(discriminator)
    assert {id(kernel) for kernel in kernels} == {id(layer.layer.kernel) for layer in wrapped.values()}
    assert len(kernels) == 3 + 3 + 2 + 2 + 1
    assert [layer for layer in discriminator.layers if isinstance(layer, WEIGHTED)] == []
    assert spectral_layers(generator) == {}
    assert len([layer for layer in generator.layers if isinstance(layer, WEIGHTED)]) == 1 + 3 * 3 + 1
    assert {variable.name for variable in discriminator.non_trainable_variables} == {"u"}


@pytest.mark.parametrize("build", SPECTRAL, ids=["resnet", "dcgan"])
def test_training_calls_bring_every_kernel_to_norm_1(build):
    keras.utils.set_random_seed(2)
    network = build()
    images = random_images(2, (16, 16, 1))
    call = tf.function(lambda: network(images, training=True))
    for _ in range(300):
        call()
    wrapped = spectral_layers(network)
    assert len(wrapped) == sum(variable.name == "kernel" for variable in network.trainable_variables) > 2
    for name, layer in wrapped.items():
        assert norm_of(layer.normalized_kernel()) == pytest.approx(1.0, abs=1e-3), name
        assert abs(norm_of(layer.layer.kernel) - 1.0) > 0.02, name  # there was something to normalize


def norm_of(kernel):
    """The largest singular value of a kernel, (..., output channels), by LAPACK."""
    return np.linalg.norm(ops.convert_to_numpy(kernel).reshape(-1, kernel.shape[-1]), ord=2)


@pytest.mark.parametrize("build", SPECTRAL, ids=["resnet", "dcgan"])
def test_each_rows_logit_depends_on_that_row_alone(build):
    network = build()
    images, others = random_images(3, (16, 16, 1)), 5 * random_images(4, (16, 16, 1), seed=1)
    weights = network.get_weights()
    together = ops.convert_to_numpy(network(images, training=True))
    for row in range(3):
        network.set_weights(weights)  # u as it was
        among_others = network(np.concatenate([others, images[row : row + 1]]), training=True)
        np.testing.assert_allclose(among_others[-1], together[row], rtol=1e-4, atol=1e-6)
    assert np.ptp(together) > 1e-4


# Both networks written out in NumPy, at 16x16 with 3 channels a map


def relu(x):
    return np.maximum(x, 0)


def convolved(x, kernel, bias=0.0):
    """A convolution of stride 1 with zeros around: (B, H, W, in), (side, side, in, out) -> (B, H, W, out)."""
    edge, (_, height, width, _) = kernel.shape[0] // 2, x.shape
    padded = np.pad(x, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
    places = [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in places) + bias


def smaller(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def larger(x):
    return np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)


def normalized(x, norm):
    """Batch norm by the statistics of this batch."""
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5) * norm.gamma.numpy() + norm.beta.numpy()


def test_the_discriminator_is_the_papers_written_in_numpy():
    network = residual.discriminator((16, 16, 2), width=3)
    shake(network)
    kernels, biases = {}, {}
    for name, layer in spectral_layers(network).items():
        kernel = layer.layer.kernel.numpy().astype(np.float64)
        _, values, rows = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
        layer.u.assign(rows[0])
        kernels[name] = kernel / values[0]
        biases[name] = layer.layer.bias.numpy() if layer.layer.use_bias else 0.0

    def apply(x, name):
        return convolved(x, kernels[name], biases[name])

    x = random_images(4, (16, 16, 2)).astype(np.float64)
    branch = apply(relu(apply(x, "down_8_convolution_1")), "down_8_convolution_2")  # images meet no ReLU
    h = smaller(branch) + apply(smaller(x), "down_8_shortcut")
    for block in ("plain_1", "plain_2"):
        h = h + apply(relu(apply(relu(h), f"{block}_convolution_1")), f"{block}_convolution_2")
    expected = relu(h).sum(axis=(1, 2)) @ kernels["logit"]
    np.testing.assert_allclose(network(x.astype(np.float32)), expected, rtol=1e-4, atol=1e-3)
    assert np.ptp(expected) > 1.0


def test_a_second_down_block_begins_with_a_relu_and_may_shrink_before_its_shortcuts_convolution():
    network = residual.discriminator((32, 32, 1), width=3)
    shake(network, seed=1)
    inner = keras.Model(network.get_layer("down_16").output, network.get_layer("down_8").output)
    wrapped = spectral_layers(network)

    def apply(x, name):
        return convolved(x, ops.convert_to_numpy(wrapped[name].normalized_kernel()), wrapped[name].layer.bias.numpy())

    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    branch = apply(relu(apply(relu(x), "down_8_convolution_1")), "down_8_convolution_2")
    expected = smaller(branch) + smaller(apply(x, "down_8_shortcut"))  # in the authors' order
    np.testing.assert_allclose(inner(x), expected, rtol=1e-4, atol=1e-3)


def test_the_generator_is_the_papers_written_in_numpy_whatever_biases_its_blocks_have():
    network = residual.generator((16, 16, 2), latent_dim=5, width=3)
    shake(network)
    layer, random = network.get_layer, np.random.default_rng(3)

    def apply(x, name):
        own = layer(name)
        bias = own.bias.numpy() if own.use_bias else random.normal(size=3)  # the authors' biases, of any value
        return convolved(x, own.kernel.numpy().astype(np.float64), bias)

    latents = random.normal(size=(4, 5)).astype(np.float32)
    project = layer("project")
    h = (latents.astype(np.float64) @ project.kernel.numpy() + project.bias.numpy()).reshape(4, 4, 4, 3)
    for block in ("up_8", "up_16"):
        branch = apply(larger(relu(normalized(h, layer(f"{block}_norm_1")))), f"{block}_convolution_1")
        branch = apply(relu(normalized(branch, layer(f"{block}_norm_2"))), f"{block}_convolution_2")
        h = branch + apply(larger(h), f"{block}_shortcut")  # in the authors' order
    expected = np.tanh(apply(relu(normalized(h, layer("norm"))), "pixels"))
    np.testing.assert_allclose(network(latents, training=True), expected, atol=1e-4)
    assert np.std(expected) > 0.1


def test_kernels_start_as_in_the_authors_code():
    for network in (residual.generator((16, 16, 3), 64, 64), residual.discriminator((16, 16, 3), 64)):
        kernels = [variable for variable in network.trainable_variables if variable.name == "kernel"]
        for kernel in kernels:
            *window, inputs, outputs = kernel.shape
            # Glorot's uniform, times sqrt(2) in 3x3 convolutions of blocks, and 1 elsewhere.
            gain = math.sqrt(2) if "_convolution_" in kernel.path else 1.0
            limit = gain * math.sqrt(6 / (math.prod(window) * (inputs + outputs)))
            values = np.abs(kernel.numpy())
            assert 0.9 * limit < values.max() <= limit * (1 + 1e-6), kernel.path
            assert np.mean(values) == pytest.approx(limit / 2, rel=0.15), kernel.path
        assert len(kernels) in (1 + 2 * 3 + 1, 3 + 2 * 2 + 1)
    twins = [residual.discriminator((16, 16, 3), 8).get_layer("plain_1_convolution_1").layer.kernel for _ in range(2)]
    assert not np.allclose(*twins)  # every initializer draws afresh


@pytest.mark.parametrize(
    "build", [lambda: residual.generator((16, 16, 1), 5, 4), lambda: residual.discriminator((16, 16, 1), 4)]
)
def test_blocks_compute_in_half_precision_between_float32_ends(build):
    with computing_in("mixed_bfloat16"):
        network = build()
    computed = {layer.name: layer.compute_dtype for layer in network.layers[1:]}  # the input computes nothing
    full = {"generator": ["image"], "discriminator": ["mean", "sum", "logit"]}[network.name]
    assert [name for name, dtype in computed.items() if dtype == "float32"] == full
    assert {dtype for name, dtype in computed.items() if name not in full} == {"bfloat16"}
    assert [tensor.dtype for tensor in (*network.inputs, *network.outputs)] == ["float32", "float32"]
    assert {variable.dtype for variable in network.variables} == {"float32"}


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (32, 16, 1)])
@pytest.mark.parametrize("build", [lambda shape: residual.generator(shape, 5), residual.discriminator])
def test_the_pair_takes_square_powers_of_two_only(build, shape):
    with pytest.raises(ValueError, match=r"take square images with a power-of-two side >= 16; resize or pad them"):
        build(shape)
