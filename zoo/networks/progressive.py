"""Progressive GAN's pair (arXiv:1710.10196, table 2) for any power-of-two size, channel count and width.

Pairs of 3x3 convolutions, nearest neighbors to enlarge and means to shrink maps, leaky ReLU, an equalized learning rate
throughout; pixel norm in the generator; no batch norm. Images come and go by 1x1 convolutions, one for each size, and
without a squashing function. The generator's first map is of one linear layer with a bias per channel, which is table
2's 4x4 convolution of a 1x1 map.
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.equalized import GAIN, ChannelBias, EqualizedConv2D, EqualizedDense, PixelNorm
from zoo.layers.minibatch import MinibatchStddev
from zoo.layers.resampling import EqualizedDownConv2D, EqualizedUpConv2D
from zoo.networks.growing import START_SIZE, channels_of, join_blocks, join_images, sizes_of

LEAK = 0.2  # appendix A.1


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int = 512,
    channel_base: int = 8192,
    channel_max: int = 512,
    start_size: int = START_SIZE,
    name: str = "generator",
) -> keras.Model:
    """latent (batch, latent_dim) -> image (batch, *image_shape), float32, unbounded; images are meant for [-1, 1].

    What it has not grown to yet does not show: its image is then a smaller one, enlarged.

    Args:
        image_shape: (size, size, channels), size a power of two times `start_size`.
        latent_dim: length of a latent vector, which is scaled to the length sqrt(latent_dim).
        channel_base: maps of size x size have 2 channel_base / size channels ...
        channel_max: ... and at most these.
        start_size: side of the smallest images.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    channels = channels_of(sizes_of(image_shape, start_size), channel_base, channel_max)
    latent = keras.Input((latent_dim,), name="latent")
    x = PixelNorm(name="pixel_norm_latent")(latent)
    # The gain makes up for the fan-in: that of a 4x4 convolution is 16 times a dense layer's.
    units = start_size * start_size * channels[start_size]
    x = EqualizedDense(units, gain=GAIN / start_size, use_bias=False, name="project")(x)
    x = layers.Reshape((start_size, start_size, channels[start_size]), name="reshape")(x)
    x = activate_and_normalize(ChannelBias(name="bias")(x), f"{start_size}_0")
    images = {}
    for size, count in channels.items():
        if size > start_size:
            x = activate_and_normalize(EqualizedUpConv2D(count, 3, name=f"conv_{size}_0")(x), f"{size}_0")
        x = activate_and_normalize(EqualizedConv2D(count, 3, name=f"conv_{size}_1")(x), f"{size}_1")
        to_rgb = EqualizedConv2D(image_shape[-1], 1, gain=1.0, dtype=full_precision(), name=f"to_rgb_{size}")
        images[size] = to_rgb(x)
    return keras.Model(latent, join_images(images), name=name)


def activate_and_normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Leaky ReLU, then pixel norm."""
    return PixelNorm(name=f"pixel_norm_{name}")(layers.LeakyReLU(LEAK, name=f"leaky_relu_{name}")(x))


def discriminator(
    image_shape: tuple[int, int, int],
    channel_base: int = 8192,
    channel_max: int = 512,
    start_size: int = START_SIZE,
    group_size: int | None = 4,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (size, size, channels), size a power of two times `start_size`.
        channel_base: maps of size x size have 2 channel_base / size channels ...
        channel_max: ... and at most these.
        start_size: side of the smallest images.
        group_size: rows whose differences the last block is shown (`zoo.layers.minibatch.MinibatchStddev`).
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    sizes = sizes_of(image_shape, start_size)
    channels = channels_of([start_size // 2, *sizes], channel_base, channel_max)
    from_rgb = {size: entrance(size, image_shape[-1], channels[size]) for size in sizes}
    blocks = {start_size: last_block(start_size, channels[start_size], channels[start_size // 2], group_size)}
    blocks |= {size: halving_block(size, channels[size], channels[size // 2]) for size in sizes[1:]}
    return join_blocks(image_shape, from_rgb, blocks, name)


def entrance(size: int, colors: int, channels: int) -> keras.Model:
    """Images (batch, size, size, colors) -> maps (batch, size, size, channels)."""
    image = keras.Input((size, size, colors))
    x = EqualizedConv2D(channels, 1, name=f"conv_rgb_{size}")(image)
    return keras.Model(image, layers.LeakyReLU(LEAK, name=f"leaky_relu_rgb_{size}")(x), name=f"from_rgb_{size}")


def halving_block(size: int, channels: int, next_channels: int) -> keras.Model:
    """(batch, size, size, channels) -> (batch, size / 2, size / 2, next_channels)."""
    maps = keras.Input((size, size, channels))
    x = EqualizedConv2D(channels, 3, name=f"conv_{size}_0")(maps)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_0")(x)
    # Authors' code: the means are taken before the bias and leaky ReLU, in one operation with the convolution.
    x = EqualizedDownConv2D(next_channels, 3, name=f"conv_{size}_1")(x)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_1")(x)
    return keras.Model(maps, x, name=f"block_{size}")


def last_block(size: int, channels: int, features: int, group_size: int | None) -> keras.Model:
    """(batch, size, size, channels) -> logit (batch, 1)."""
    maps = keras.Input((size, size, channels))
    x = MinibatchStddev(group_size, name="stddev")(maps)
    x = EqualizedConv2D(channels, 3, name=f"conv_{size}_0")(x)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_0")(x)
    x = layers.Flatten(name="flatten")(x)
    x = EqualizedDense(features, name="features")(x)
    x = layers.LeakyReLU(LEAK, name="leaky_relu_features")(x)
    logit = EqualizedDense(1, gain=1.0, dtype=full_precision(), name="score")(x)
    return keras.Model(maps, logit, name=f"block_{size}")
