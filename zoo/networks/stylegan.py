"""StyleGAN's networks (arXiv:1812.04948, section 2 and appendix C), which grow (`zoo.networks.growing`).

Generator: a learned constant, then twice a resolution noise B, bias, leaky ReLU and AdaIN by a style A(w); the second
time, and at each larger resolution both times, a convolution goes before; maps are doubled with a filter of [1, 2, 1].
Discriminator: Progressive GAN's (arXiv:1710.10196), with that filter where maps are halved.
"""

from itertools import pairwise

import keras

from zoo.core.precision import full_precision
from zoo.layers.equalized import EqualizedConv2D
from zoo.layers.resampling import Blur, EqualizedDownConv2D, EqualizedUpConv2D
from zoo.layers.style import AdaIN, LearnedConstant, NoiseBias
from zoo.networks.growing import START_SIZE, channels_of, join_blocks, join_images, sizes_of
from zoo.networks.style import FEATURES_SIZE, last_layers, latent_to_styles, leaky_relu, noise_input

CHANNEL_BASE = 8192
MOST_CHANNELS = 512


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int = 512,
    style_dim: int = 512,
    mapping_layers: int = 8,
    channel_base: int = CHANNEL_BASE,
    channel_max: int = MOST_CHANNELS,
    start_size: int = START_SIZE,
    truncation_layers: int | None = None,
    name: str = "generator",
) -> keras.Model:
    """latent (batch, latent_dim), truncation (batch,), noise_{size}_{0|1} (batch, size, size, 1) -> image.

    The image, (batch, *image_shape), is float32 and unbounded. There are two styles for each size.

    Args:
        image_shape: (size, size, channels), size = start_size * 2, 4, 8 ...
        latent_dim: length of z.
        style_dim: length of w, and units of the mapping network's layers.
        mapping_layers: their number.
        channel_base: channels of maps times half their side, where `channel_max` does not limit them.
        channel_max: the most channels of a map.
        start_size: side of the learned constant, and of the images before the network grows.
        truncation_layers: how many layers, from the lowest size, have their style truncated; the authors' images have
            8; None for all.
        name: of the network.

    Raises:
        ValueError: the image has another shape, or there are fewer layers to truncate.
    """
    sizes = sizes_of(image_shape, start_size)
    channels = channels_of(sizes, channel_base, channel_max)
    inputs, styles = latent_to_styles(latent_dim, style_dim, mapping_layers, 2 * len(sizes), truncation_layers)
    x, images = styles, {}
    for level, size in enumerate(sizes):
        for number in range(2):
            noise = noise_input(size, number)
            inputs.append(noise)
            place = f"{size}_{number}"
            if number:
                x = EqualizedConv2D(channels[size], 3, use_bias=False, name=f"convolution_{place}")(x)
            elif level:
                x = EqualizedUpConv2D(channels[size], 3, use_bias=False, name=f"convolution_{place}")(x)
                x = Blur(name=f"blur_{place}")(x)
            else:
                # Paper: ones. AdaIN then divides a map without variance by it, and rounding is what is left.
                start = keras.initializers.RandomNormal(0.0, 1.0)
                x = LearnedConstant((size, size, channels[size]), start, name="constant")(x)
            x = NoiseBias(name=f"noise_bias_{place}")([x, noise])
            x = leaky_relu(f"leaky_relu_{place}")(x)
            x = AdaIN(name=f"style_{place}")([x, styles[:, 2 * level + number]])
        to_rgb = EqualizedConv2D(image_shape[-1], 1, gain=1.0, dtype=full_precision(), name=f"to_rgb_{size}")
        images[size] = to_rgb(x)
    return keras.Model(inputs, join_images(images), name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    channel_base: int = CHANNEL_BASE,
    channel_max: int = MOST_CHANNELS,
    start_size: int = START_SIZE,
    group_size: int | None = 4,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: see `generator`; likewise `channel_base` and `channel_max`.
        channel_base: see there.
        channel_max: see there.
        start_size: side of the maps in the last block, and of the images before the network grows.
        group_size: rows whose standard deviation is compared; None for the global batch.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    sizes = sizes_of(image_shape, start_size)
    channels = channels_of([FEATURES_SIZE, *sizes], channel_base, channel_max)
    from_rgb = {
        size: keras.Sequential(
            [EqualizedConv2D(channels[size], 1, name="convolution"), leaky_relu("leaky_relu")], name=f"from_rgb_{size}"
        )
        for size in sizes
    }
    ends = last_layers(sizes[0], channels[sizes[0]], channels[FEATURES_SIZE], group_size)
    blocks = {sizes[0]: keras.Sequential(ends, name=f"block_{sizes[0]}")}
    for smaller, size in pairwise(sizes):
        parts = [
            EqualizedConv2D(channels[size], 3, name="convolution_0"),
            leaky_relu("leaky_relu_0"),
            Blur(name="blur"),
            EqualizedDownConv2D(channels[smaller], 3, name="convolution_1"),
            leaky_relu("leaky_relu_1"),
        ]
        blocks[size] = keras.Sequential(parts, name=f"block_{size}")
    return join_blocks(image_shape, from_rgb, blocks, name)
