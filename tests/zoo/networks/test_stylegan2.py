"""StyleGAN2's networks: what is joined how, and the gains of the authors' code."""

import numpy as np
import tensorflow as tf
from keras import layers

from zoo.layers.equalized import EqualizedConv2D, EqualizedDense
from zoo.layers.resampling import Blur, EqualizedBlurDownConv2D
from zoo.networks import style, stylegan2

TINY = {"channel_base": 24, "channel_max": 6}


def leaky_relu(x):
    return tf.nn.leaky_relu(x, 0.2)


def test_a_generator_sums_the_images_of_all_sizes():
    network = stylegan2.generator((16, 16, 3), latent_dim=5, style_dim=7, mapping_layers=2, **TINY)
    random = np.random.default_rng(0)
    for variable in network.variables:
        variable.assign(variable.numpy() + random.normal(0, 0.5, variable.shape))
    synthesis = style.synthesis_of(network)
    inputs = {each.name: random.normal(size=(3, *each.shape[1:])).astype(np.float32) for each in synthesis.inputs}
    styles = inputs["styles"]

    def layer(x, place, number):
        x = network.get_layer(f"convolution_{place}")([x, styles[:, number]])
        noise = network.get_layer(f"noise_bias_{place}")
        assert noise.strength.shape == ()
        return leaky_relu(x + inputs[f"noise_{place}"] * noise.strength + noise.bias)

    x = tf.repeat(network.get_layer("constant").constant.value[None], 3, axis=0)
    x = layer(x, "4_0", 0)
    image = network.get_layer("to_rgb_4")([x, styles[:, 1]])
    for size, number in ((8, 1), (16, 3)):  # the authors' numbers: 2 log2(size) - 5, - 4 and - 3
        x = layer(layer(x, f"{size}_0", number), f"{size}_1", number + 1)
        image = Blur()(layers.UpSampling2D(2)(image)) + network.get_layer(f"to_rgb_{size}")([x, styles[:, number + 2]])
    np.testing.assert_allclose(synthesis(inputs), image, rtol=1e-4, atol=1e-5)


def test_a_discriminator_has_the_gains_of_the_authors_code():
    """Theirs: weights of gain 1, sqrt(2) behind each leaky ReLU, 1 / sqrt(2) behind each sum of block and shortcut."""
    network = stylegan2.discriminator((16, 16, 3), group_size=None, **TINY)
    images = tf.random.stateless_normal((4, 16, 16, 3), (0, 1))

    def like(layer, name, x):
        layer.build(x.shape)
        layer.set_weights(network.get_layer(name).get_weights())
        return layer(x)

    def activate(x):
        return 2**0.5 * leaky_relu(x)

    x = activate(like(EqualizedConv2D(3, 1, gain=1.0), "from_rgb", images))
    for size, filters in ((16, 6), (8, 6)):
        shortcut = like(EqualizedBlurDownConv2D(filters, 1, gain=1.0, use_bias=False), f"block_{size}_shortcut", x)
        x = activate(like(EqualizedConv2D(x.shape[-1], 3, gain=1.0), f"block_{size}_convolution_0", x))
        x = activate(like(EqualizedBlurDownConv2D(filters, 3, gain=1.0), f"block_{size}_convolution_1", x))
        x = (x + shortcut) / 2**0.5
    x = network.get_layer("stddev")(x)
    x = activate(like(EqualizedConv2D(6, 3, gain=1.0), "convolution_4", x))
    x = activate(like(EqualizedDense(6, gain=1.0), "features", tf.reshape(x, (4, -1))))
    logit = like(EqualizedDense(1, gain=1.0), "score", x)
    assert np.abs(logit).max() > 0.01
    np.testing.assert_allclose(network(images), logit, rtol=1e-4, atol=1e-5)
