"""The networks: shapes, ranges and names at every size, the papers' layers, and parameters counted by hand."""

import math

import numpy as np
import pytest
from keras import layers, ops

from zoo.layers.dropout import Dropout
from zoo.layers.maxout import Maxout
from zoo.layers.normalization import BatchNorm, LayerNorm
from zoo.networks import convolutional, mlp

BUILDERS = {"dcgan": convolutional, "mlp": mlp}
SHAPES = [
    *(("dcgan", (size, size, channels)) for size in (8, 16, 32, 64) for channels in (1, 3)),
    ("mlp", (8, 8, 3)),
    ("mlp", (28, 20, 1)),
]


def parameters(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def of_type(network, *kinds):
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def layer_before(layer):
    return layer.input._keras_history.operation


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_a_generator_turns_a_named_latent_into_a_named_image_in_range(architecture, shape):
    network = BUILDERS[architecture].generator(shape, latent_dim=5, width=8)
    assert [tensor.name for tensor in network.inputs] == ["latent"]
    assert network.output_names == ["image"]
    pixels = network.get_layer("pixels")  # its kernel times 1000: what comes before tanh or sigmoid lies far out
    pixels.set_weights([1000 * pixels.kernel, pixels.bias])
    latents = np.random.default_rng(0).normal(0, 1000, (3, 5)).astype(np.float32)
    images = ops.convert_to_numpy(network(latents, training=True))
    assert (images.shape, images.dtype) == ((3, *shape), np.float32)
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_a_discriminator_turns_a_named_image_into_one_unbounded_logit(architecture, shape):
    network = BUILDERS[architecture].discriminator(shape, width=2)
    assert [tensor.name for tensor in network.inputs] == ["image"]
    assert network.output_names == ["logit"]
    images = np.random.default_rng(0).uniform(-1, 1, (3, *shape)).astype(np.float32)
    small = ops.convert_to_numpy(network(images, training=False))
    assert (small.shape, small.dtype) == ((3, 1), np.float32)
    head = network.get_layer("logit")
    head.set_weights([1e6 * head.kernel, head.bias])
    np.testing.assert_allclose(network(images, training=False), 1e6 * small, rtol=1e-4)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_dcgan_normalises_everywhere_but_at_image_ends_and_without_a_bias(size):
    generator = convolutional.generator((size, size, 3), 5, width=2)
    discriminator = convolutional.discriminator((size, size, 3), width=2)
    doublings = size.bit_length() - 3  # from 4x4: 8 is one doubling, 64 is four
    counts = {generator: doublings, discriminator: doublings - 1}
    for network, count in counts.items():
        norms = of_type(network, BatchNorm)
        assert len(norms) == count
        for norm in norms:
            before = layer_before(norm)
            before = layer_before(before) if isinstance(before, layers.Reshape) else before
            assert not before.use_bias, f"{before.name} has a bias that {norm.name} cancels"
    # Exactly the layers that no batch norm follows keep their bias.
    weighted = of_type(generator, layers.Dense, layers.Conv2DTranspose)
    assert [layer.name for layer in weighted if layer.use_bias] == ["pixels"]
    weighted = of_type(discriminator, layers.Dense, layers.Conv2D)
    assert [layer.name for layer in weighted if layer.use_bias] == [f"down_{size // 2}", "logit"]


@pytest.mark.parametrize("logit_bias", [True, False])
@pytest.mark.parametrize(
    ("norm", "kind", "biased"),
    [
        ("batch", BatchNorm, ["down_16"]),
        ("layer", LayerNorm, ["down_16"]),
        ("none", (), ["down_16", "down_8", "down_4"]),
    ],
)
def test_a_discriminator_keeps_a_bias_where_no_norm_follows(norm, kind, biased, logit_bias):
    network = convolutional.discriminator((32, 32, 3), 2, norm=norm, logit_bias=logit_bias)
    weighted = of_type(network, layers.Dense, layers.Conv2D)
    assert [layer.name for layer in weighted if layer.use_bias] == biased + ["logit"] * logit_bias
    assert [layer.name for layer in network.layers if "norm" in layer.name] == ["norm_8", "norm_4"] * bool(kind)
    assert [layer_before(layer).name for layer in of_type(network, kind)] == ["down_8", "down_4"] * bool(kind)


def test_layer_norm_takes_one_mean_and_variance_a_row_and_a_scale_and_shift_a_channel():
    norm, random = convolutional.layer_norm("norm"), np.random.default_rng(0)
    maps = random.normal(3.0, 2.0, (4, 5, 5, 3)).astype(np.float32) * np.array([1, 2, 3], np.float32)
    norm.build(maps.shape)
    scale, shift = random.normal(size=(2, 3)).astype(np.float32)
    assert {variable.name: tuple(variable.shape) for variable in norm.weights} == {"gamma": (3,), "beta": (3,)}
    norm.set_weights([scale, shift])
    means, variances = maps.mean((1, 2, 3), keepdims=True), maps.var((1, 2, 3), keepdims=True)
    expected = scale * (maps - means) / np.sqrt(variances + 1e-5) + shift
    for training in (True, False):
        np.testing.assert_allclose(norm(maps, training=training), expected, rtol=1e-4, atol=1e-4)
    # A map of size 1e-3 shows epsilon: its variance of 1e-6 is a tenth of it.
    small = 1e-3 * (maps - means) / np.sqrt(variances)
    expected = scale * small / np.sqrt(1e-6 + 1e-5) + shift
    np.testing.assert_allclose(norm(small), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_normalization_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"norm='instance': choose from \['batch', 'layer', 'none', 'spectral'\]"):
        convolutional.discriminator((8, 8, 1), norm="instance")


def test_dcgan_activations_and_weights_are_the_papers():
    generator, discriminator = convolutional.generator((32, 32, 3), 100), convolutional.discriminator((32, 32, 3))
    assert len(of_type(generator, layers.ReLU)) == 3
    leaks = of_type(discriminator, layers.LeakyReLU)
    assert [leak.negative_slope for leak in leaks] == [pytest.approx(0.2)] * 3
    assert not of_type(discriminator, layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D)
    kernels = [v for network in (generator, discriminator) for v in network.trainable_variables if "kernel" in v.path]
    assert len(kernels) == 8
    for kernel in kernels:  # N(0, 0.02); the smallest, 4x4x64x3, has 3,072 values: the estimate's deviation is 1.3 %
        assert np.std(kernel) == pytest.approx(0.02, rel=0.07), kernel.path
    same_shape = generator.get_layer("up_8").kernel, convolutional.generator((32, 32, 3), 100).get_layer("up_8").kernel
    assert not np.allclose(*same_shape)  # every initializer draws afresh


def test_channels_double_as_the_map_halves_up_to_eight_times_the_width():
    assert convolutional.map_channels((128, 128, 1), 4) == [4, 8, 16, 32, 32]
    generator = convolutional.generator((128, 128, 1), 5, width=4)
    maps = [norm.output.shape[1:] for norm in of_type(generator, BatchNorm)]
    assert maps == [(4, 4, 32), (8, 8, 32), (16, 16, 16), (32, 32, 8), (64, 64, 4)]


def test_dcgan_has_the_parameters_of_pytorchs_example():
    """github.com/pytorch/examples/dcgan at its defaults: 64x64x3, 100 latents, width 64."""
    # Its G: transposed convolutions 100 -> 512 -> 256 -> 128 -> 64 -> 3, all 4x4 without bias, batch norm after four:
    convolutions = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)  # 3,574,784
    norms = 2 * (512 + 256 + 128 + 64)  # gamma and beta: 1,920
    assert convolutions + norms == 3_576_704
    # Ours: a dense layer, 100 -> 4*4*512, does what its first 4x4 layer on a 1x1 map does; our last layer has a bias.
    assert parameters(convolutional.generator((64, 64, 3), 100, 64)) == 3_576_704 + 3
    # Its D: convolutions 3 -> 64 -> 128 -> 256 -> 512 -> 1, all 4x4 without bias, batch norm after the middle three:
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1)  # 2,763,776
    norms = 2 * (128 + 256 + 512)  # 1,792
    assert convolutions + norms == 2_765_568
    # Ours: the last 4x4 convolution on a 4x4 map is a dense layer; the first layer and the last have a bias.
    assert parameters(convolutional.discriminator((64, 64, 3), 64)) == 2_765_568 + 64 + 1


def test_mlp_has_the_parameters_of_the_first_papers_mnist_networks():
    generator, discriminator = mlp.generator((28, 28, 1), 100), mlp.discriminator((28, 28, 1))
    # 100 -> 1200 -> 1200 -> 784, with biases
    assert parameters(generator) == 101 * 1200 + 1201 * 1200 + 1201 * 784 == 2_503_984
    # 784 -> 240 units of 5 pieces -> the same -> 1
    assert parameters(discriminator) == 785 * 240 * 5 + 241 * 240 * 5 + 241 == 1_231_441
    assert [layer.pieces for layer in of_type(discriminator, Maxout)] == [5, 5]
    assert [layer.rate for layer in of_type(discriminator, Dropout)] == [0.2, 0.5, 0.5]
    for network, largest in ((generator, 0.05), (discriminator, 0.005)):  # goodfeli/adversarial, mnist.yaml: irange
        kernels = [variable.numpy() for variable in network.trainable_variables if variable.name == "kernel"]
        assert [np.abs(kernel).max() <= largest for kernel in kernels] == [True] * 3
        assert min(kernel.std() for kernel in kernels) == pytest.approx(largest / 3**0.5, rel=0.1)  # uniform


@pytest.mark.parametrize("shape", [(28, 28, 1), (12, 12, 1), (4, 4, 1), (32, 16, 1)])
@pytest.mark.parametrize("build", [lambda shape: convolutional.generator(shape, 5), convolutional.discriminator])
def test_dcgan_takes_square_powers_of_two_only(build, shape):
    with pytest.raises(ValueError, match=r"take square images with a power-of-two side >= 8; resize or pad them"):
        build(shape)
