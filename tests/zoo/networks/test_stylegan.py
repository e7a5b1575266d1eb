"""StyleGAN's networks, written out in NumPy, and grown."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.ndimage import convolve1d
from scipy.signal import correlate

from zoo.core.growth import Stage, set_growth
from zoo.networks import style, stylegan
from zoo.networks.growing import discriminator_at, generator_at

TINY = {"channel_base": 24, "channel_max": 6}


def make_generator(shape):
    """With random weights of every kind, noise strengths and biases included."""
    return shake(stylegan.generator(shape, latent_dim=5, style_dim=7, mapping_layers=2, **TINY))


def make_discriminator(shape):
    return shake(stylegan.discriminator(shape, group_size=None, **TINY))


def shake(network):
    random = np.random.default_rng(0)
    for variable in network.variables:
        variable.assign(variable.numpy() + random.normal(0, 0.5, variable.shape))
    return network


def random_inputs(network, rows=3):
    random = np.random.default_rng(1)
    return {each.name: random.normal(size=(rows, *each.shape[1:])).astype(np.float32) for each in network.inputs}


def enlarge(images):
    return np.repeat(np.repeat(np.asarray(images), 2, axis=1), 2, axis=2)


def halve(images):
    rows, side, _, channels = images.shape
    return images.reshape(rows, side // 2, 2, side // 2, 2, channels).mean((2, 4))


def leaky_relu(x):
    return np.where(x > 0, x, 0.2 * x)


def blur(maps):
    for axis in (1, 2):
        maps = convolve1d(maps, np.array([1, 2, 1]) / 4, axis, mode="constant")
    return maps


def convolve(maps, layer, gain=2**0.5):
    """By the layer's kernel, with zeros around the map, and its bias if it has one."""
    kernel = layer.kernel.numpy().astype(float)
    kernel *= gain / np.prod(kernel.shape[:3]) ** 0.5
    edge = kernel.shape[0] // 2
    maps = np.pad(maps, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
    filters = [correlate(maps, kernel[None, ..., number], "valid")[..., 0] for number in range(kernel.shape[-1])]
    return np.stack(filters, axis=-1) + (0.0 if layer.bias is None else layer.bias.numpy())


def dense(values, layer, gain=2**0.5):
    return values @ layer.kernel.numpy() * gain / values.shape[1] ** 0.5 + layer.bias.numpy()


def test_a_generator_is_the_papers_figure():
    """Noise, bias, leaky ReLU, AdaIN behind a constant and each convolution; maps doubled, convolved, then blurred."""
    network = make_generator((8, 8, 3))
    synthesis = style.synthesis_of(network)
    inputs = random_inputs(synthesis)
    x = np.repeat(network.get_layer("constant").constant.numpy()[None].astype(float), 3, axis=0)
    places = ("4_0", "4_1", "8_0", "8_1")
    for number, place in enumerate(places):
        if place == "8_0":
            x = enlarge(x)
        if number:
            x = convolve(x, network.get_layer(f"convolution_{place}"))
        if place == "8_0":
            x = blur(x)
        noise, adain = network.get_layer(f"noise_bias_{place}"), network.get_layer(f"style_{place}")
        x = leaky_relu(x + inputs[f"noise_{place}"] * noise.strength.numpy() + noise.bias.numpy())
        x = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
        affine = dense(inputs["styles"][:, number], adain.affine, gain=1.0)[:, None, None]
        x = x * (1 + affine[..., : x.shape[-1]]) + affine[..., x.shape[-1] :]
    expected = convolve(x, network.get_layer("to_rgb_8"), gain=1.0)
    set_growth([network], 1.0)
    np.testing.assert_allclose(synthesis(inputs), expected, rtol=1e-4, atol=1e-4)


def test_a_discriminator_is_progressive_gans_with_a_filter():
    network = make_discriminator((8, 8, 3))
    images = random_inputs(network)["image"]
    part = {name: network.get_layer(name) for name in ("from_rgb_8", "block_8", "block_4")}
    x = leaky_relu(convolve(images, part["from_rgb_8"].get_layer("convolution")))
    x = leaky_relu(convolve(x, part["block_8"].get_layer("convolution_0")))
    fused = part["block_8"].get_layer("convolution_1")
    bias = fused.bias.numpy()
    x = leaky_relu(halve(convolve(blur(x), fused) - bias) + bias)
    x = np.concatenate([x, np.full((*x.shape[:3], 1), np.sqrt(x.var(0) + 1e-8).mean())], axis=-1)
    x = leaky_relu(convolve(x, part["block_4"].get_layer("convolution_4")))
    x = leaky_relu(dense(x.reshape(3, -1), part["block_4"].get_layer("features")))
    expected = dense(x, part["block_4"].get_layer("score"), gain=1.0)
    set_growth([network], 1.0)
    np.testing.assert_allclose(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", [1, 2])
def test_a_generator_fades_from_the_enlarged_image_to_the_larger_one(level):
    network = make_generator((16, 16, 3))
    fading = generator_at(network, Stage(level, True))
    size = 4 * 2**level
    assert fading.inputs[-1].name == f"noise_{size}_1"
    inputs = random_inputs(network)
    small, large = (generator_at(network, Stage(each, False))(inputs).numpy() for each in (level - 1, level))
    for weight, expected in ((level - 1.0, enlarge(small)), (float(level), large)):
        set_growth([network], weight)
        np.testing.assert_allclose(fading(inputs), expected, rtol=1e-5, atol=1e-6)
        whole = expected if level == 2 else enlarge(expected)
        np.testing.assert_allclose(network(inputs), whole, rtol=1e-5, atol=1e-6)
    assert np.abs(enlarge(small) - large).max() > 0.1


@pytest.mark.parametrize("level", [1, 2])
def test_a_discriminator_fades_from_the_smaller_image_to_the_larger_one(level):
    network = make_discriminator((16, 16, 3))
    fading = discriminator_at(network, Stage(level, True))
    images = tf.random.stateless_normal((3, 4 * 2**level, 4 * 2**level, 3), (0, 1)).numpy()
    small = discriminator_at(network, Stage(level - 1, False))(layers.AveragePooling2D(2)(images))
    large = discriminator_at(network, Stage(level, False))(images)
    for weight, expected in ((level - 1.0, small), (float(level), large)):
        set_growth([network], weight)
        np.testing.assert_allclose(fading(images), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(small - large).max() > 0.01


def test_the_synthesis_of_a_stage_takes_the_noise_of_its_sizes_and_has_their_weights_alone():
    network = make_generator((16, 16, 3))
    synthesis = style.synthesis_of(generator_at(network, Stage(1, True)))
    assert [each.name for each in synthesis.inputs] == ["styles", "noise_4_0", "noise_4_1", "noise_8_0", "noise_8_1"]
    assert synthesis.output_shape == (None, 8, 8, 3)
    kinds = ("noise_bias_4_0", "convolution_4_1", "noise_bias_4_1", "convolution_8_0", "noise_bias_8_0")
    kinds += ("convolution_8_1", "noise_bias_8_1", "style_4_0", "style_4_1", "style_8_0", "style_8_1")
    weighted = {layer.name for layer in synthesis.layers if layer.weights}
    assert weighted == {"constant", *kinds, "to_rgb_4", "to_rgb_8", "growth"}
