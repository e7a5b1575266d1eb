"""Progressive GAN's networks against the paper's formulas written out, at every stage of growth."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core.growth import Stage, set_growth
from zoo.networks import progressive
from zoo.networks.growing import discriminator_at, generator_at

SHAPE, LATENT_DIM, GROUP = (16, 16, 3), 5, 2
WIDTHS = {"channel_base": 16, "channel_max": 6}  # 6, 4 and 2 channels at 4x4, 8x8 and 16x16
SIZES = (4, 8, 16)
LATENTS = np.random.default_rng(0).normal(size=(4, LATENT_DIM)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (4, *SHAPE)).astype(np.float32)
STAGES = [Stage(0, False), Stage(1, True), Stage(1, False), Stage(2, True), Stage(2, False)]


def made(build, *arguments, **options):
    """A network whose biases are no longer 0, and its weights by path."""
    keras.utils.set_random_seed(1)
    network = build(SHAPE, *arguments, **WIDTHS, **options)
    for number, weight in enumerate(network.trainable_variables):
        if weight.path.endswith("bias"):
            weight.assign(np.random.default_rng(number).normal(0.0, 0.3, weight.shape))
    return network, {weight.path: weight.numpy() for weight in network.trainable_variables}


def generator():
    return made(progressive.generator, LATENT_DIM)


def discriminator(group_size=GROUP):
    return made(progressive.discriminator, group_size=group_size)


# The paper, appendix A.1 and table 2. Equalized: kernels are scaled by He's constant, sqrt(2 / fan in).


def scaled(kernel, gain):
    return kernel * gain / np.sqrt(np.prod(kernel.shape[:-1]))


def convolve(x, weights, name, gain=2**0.5):
    return tf.nn.conv2d(x, scaled(weights[f"{name}/kernel"], gain), 1, "SAME") + weights[f"{name}/bias"]


def leaky_relu(x):
    return tf.maximum(0.2 * x, x)


def pixel_norm(x):
    return x / tf.sqrt(tf.reduce_mean(x**2, axis=-1, keepdims=True) + 1e-8)


def larger(x):
    return np.repeat(np.repeat(np.asarray(x), 2, axis=1), 2, axis=2)


def smaller(x):
    return np.asarray(x)[:, ::2, ::2] / 4 + x[:, 1::2, ::2] / 4 + x[:, ::2, 1::2] / 4 + x[:, 1::2, 1::2] / 4


def images_by_hand(latents, weights):
    """What G gives at 4x4, 8x8 and 16x16."""
    # "Conv 4x4" of a 1x1 map: 16 LATENT_DIM products for every value of a transposed convolution's fan in.
    x = pixel_norm(latents) @ (weights["project/kernel"] * np.sqrt(2 / (16 * LATENT_DIM)))
    x = pixel_norm(leaky_relu(tf.reshape(x, (-1, 4, 4, 6)) + weights["bias/bias"]))
    x = pixel_norm(leaky_relu(convolve(x, weights, "conv_4_1")))
    images = [convolve(x, weights, "to_rgb_4", gain=1.0)]
    for size in (8, 16):
        x = pixel_norm(leaky_relu(convolve(larger(x), weights, f"conv_{size}_0")))
        x = pixel_norm(leaky_relu(convolve(x, weights, f"conv_{size}_1")))
        images.append(convolve(x, weights, f"to_rgb_{size}", gain=1.0))
    return [np.asarray(image) for image in images]


def from_rgb(image, weights):
    return leaky_relu(convolve(image, weights, f"conv_rgb_{image.shape[1]}"))


def halving_block(x, weights):
    size = x.shape[1]
    x = leaky_relu(convolve(x, weights, f"conv_{size}_0"))
    return leaky_relu(smaller(convolve(x, weights, f"conv_{size}_1")))  # in this order in the authors' code


def score_by_hand(x, weights, group):
    """Maps that enter at some size -> D's scores."""
    while x.shape[1] > 4:
        x = halving_block(x, weights)
    groups = np.reshape(x, (-1, group, *x.shape[1:]))
    deviation = np.sqrt(groups.var(axis=1) + 1e-8).mean(axis=(1, 2, 3))
    channel = np.broadcast_to(np.repeat(deviation, group)[:, None, None, None], (*x.shape[:3], 1))
    x = leaky_relu(convolve(np.concatenate([x, channel], axis=-1).astype(np.float32), weights, "conv_4_0"))
    x = tf.reshape(x, (len(x), -1)) @ scaled(weights["features/kernel"], 2**0.5) + weights["features/bias"]
    return np.asarray(leaky_relu(x) @ scaled(weights["score/kernel"], 1.0) + weights["score/bias"])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_the_generator_is_the_papers_at_every_stage(stage, alpha):
    network, weights = generator()
    set_growth([network], stage.level - 1 + alpha if stage.fading else stage.level)
    images = images_by_hand(LATENTS, weights)
    expected = images[stage.level]
    if stage.fading:
        expected = (1 - alpha) * larger(images[stage.level - 1]) + alpha * expected
    found = generator_at(network, stage)([LATENTS])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for _ in range(2 - stage.level):  # the whole network shows the same, enlarged
        expected = larger(expected)
    np.testing.assert_allclose(network(LATENTS), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(images[1] - larger(images[0])).mean() > 0.1


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_the_discriminator_is_the_papers_at_every_stage(stage, alpha):
    network, weights = discriminator()
    set_growth([network], stage.level - 1 + alpha if stage.fading else stage.level)
    image = IMAGES[:, : SIZES[stage.level], : SIZES[stage.level]]
    maps = from_rgb(image, weights)
    if stage.fading:  # maps are mixed, not scores, below the new block
        maps = (1 - alpha) * from_rgb(smaller(image), weights) + alpha * halving_block(maps, weights)
    expected = score_by_hand(maps, weights, GROUP)
    np.testing.assert_allclose(discriminator_at(network, stage)(image), expected, rtol=1e-4, atol=1e-5)
    for _ in range(2 - stage.level):  # the whole network averages what is enlarged: it scores it the same
        image = larger(image)
    np.testing.assert_allclose(network(image), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.01


def test_only_rows_of_its_group_change_a_score_and_none_an_image():
    network, _ = discriminator()
    others = np.concatenate([IMAGES[:2], IMAGES[2:] * 0.1])
    changes = np.abs(np.asarray(network(IMAGES) - network(others)))[:, 0]
    assert changes[:2].max() < 1e-6 < 1e-3 < changes[2:].min()
    others = np.concatenate([IMAGES[:3], IMAGES[3:] * 0.1])
    assert np.abs(np.asarray(network(IMAGES) - network(others)))[2, 0] > 1e-4
    network, _ = generator()
    set_growth([network], 1.5)
    np.testing.assert_allclose(network(LATENTS)[1:2], network(LATENTS[1:2]), rtol=1e-5, atol=1e-6)


def test_only_the_direction_of_a_latent_counts():
    network, _ = generator()
    np.testing.assert_allclose(network(LATENTS), network(3 * LATENTS), rtol=1e-4, atol=1e-5)


def test_the_published_networks_have_the_published_numbers_of_parameters():
    """23.1 M each (table 2); G has 23,079,115 by the layers of the authors' networks.py, D StyleGAN's 23,087,249."""
    for build, expected in ((progressive.generator, 23_079_115), (progressive.discriminator, 23_087_249)):
        network = build((1024, 1024, 3))
        assert sum(int(np.prod(weight.shape)) for weight in network.trainable_variables) == expected
        del network
        keras.backend.clear_session()
