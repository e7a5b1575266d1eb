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
from zoo.layers.growth import Growth
from zoo.layers.minibatch import MinibatchStddev
from zoo.networks.growing import chain_blocks, chain_images, channels_of, level_sizes

LEAK = 0.2  # appendix A.1


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int = 512,
    channel_base: int = 16384,
    channel_max: int = 512,
    start_size: int = 4,
    name: str = "generator",
) -> keras.Model:
    """latent (batch, latent_dim) -> image (batch, *image_shape), float32, unbounded; images are meant for [-1, 1].

    What it has not grown to yet does not show: its image is then a smaller one, enlarged.

    Args:
        image_shape: (size, size, channels), size a power of two times `start_size`.
        latent_dim: length of a latent vector, which is scaled to the length sqrt(latent_dim).
        channel_base: maps of size x size have channel_base / size channels ...
        channel_max: ... and at most these.
        start_size: side of the smallest images.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    sizes = level_sizes(image_shape, start_size)
    latent = keras.Input((latent_dim,), name="latent")
    channels = channels_of(start_size, channel_base, channel_max)
    x = PixelNorm(name="pixel_norm_latent")(latent)
    # The gain of a convolution of the same size, whose fan-in is start_size^2 times larger.
    project = EqualizedDense(start_size * start_size * channels, gain=GAIN / start_size, use_bias=False, name="project")
    x = layers.Reshape((start_size, start_size, channels), name="reshape")(project(x))
    x = activate_and_normalize(ChannelBias(name="bias")(x), "project")
    images = []
    for size in sizes:
        channels = channels_of(size, channel_base, channel_max)
        if size > start_size:
            x = layers.UpSampling2D(name=f"larger_{size}")(x)
            x = EqualizedConv2D(channels, 3, name=f"conv_{size}_0")(x)
            x = activate_and_normalize(x, f"{size}_0")
        x = EqualizedConv2D(channels, 3, name=f"conv_{size}_1")(x)
        x = activate_and_normalize(x, f"{size}_1")
        to_rgb = EqualizedConv2D(image_shape[-1], 1, gain=1.0, dtype=full_precision(), name=f"to_rgb_{size}")
        images.append(to_rgb(x))
    return keras.Model(latent, chain_images(images, Growth(dtype=full_precision(), name="growth")), name=name)


def activate_and_normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Leaky ReLU, then pixel norm."""
    return PixelNorm(name=f"pixel_norm_{name}")(layers.LeakyReLU(LEAK, name=f"leaky_relu_{name}")(x))


def discriminator(
    image_shape: tuple[int, int, int],
    channel_base: int = 16384,
    channel_max: int = 512,
    start_size: int = 4,
    group_size: int | None = 4,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (size, size, channels), size a power of two times `start_size`.
        channel_base: maps of size x size have channel_base / size channels ...
        channel_max: ... and at most these.
        start_size: side of the smallest images.
        group_size: rows whose differences the last block is shown (`zoo.layers.minibatch.MinibatchStddev`).
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    sizes = level_sizes(image_shape, start_size)
    channels = {size: channels_of(size, channel_base, channel_max) for size in (start_size // 2, *sizes)}
    colors = image_shape[-1]
    made = [halving_block(size, channels[size], channels[size // 2]) for size in sizes[1:]]
    made += [last_block(start_size, channels[start_size], channels[start_size // 2], group_size)]
    for size in sizes:
        image = keras.Input((size, size, colors))
        maps = EqualizedConv2D(channels[size], 1, name=f"conv_rgb_{size}")(image)
        maps = layers.LeakyReLU(LEAK, name=f"leaky_relu_rgb_{size}")(maps)
        made.append(keras.Model(image, maps, name=f"from_rgb_{size}"))
    made += [layers.AveragePooling2D(2, dtype=full_precision(), name=f"smaller_image_{size}") for size in sizes[:-1]]
    made += [Growth(name="growth"), EqualizedDense(1, gain=1.0, dtype=full_precision(), name="logit")]
    by_name = {layer.name: layer for layer in made}
    image = keras.Input(image_shape, name="image")
    logit = chain_blocks(by_name.__getitem__, image, sizes, fading=range(1, len(sizes)))
    return keras.Model(image, logit, name=name)


def halving_block(size: int, channels: int, next_channels: int) -> keras.Model:
    """(batch, size, size, channels) -> (batch, size / 2, size / 2, next_channels)."""
    maps = keras.Input((size, size, channels))
    x = EqualizedConv2D(channels, 3, name=f"conv_{size}_0")(maps)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_0")(x)
    x = EqualizedConv2D(next_channels, 3, name=f"conv_{size}_1")(x)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_1")(x)
    x = layers.AveragePooling2D(2, name=f"smaller_{size}")(x)
    return keras.Model(maps, x, name=f"block_{size}")


def last_block(size: int, channels: int, features: int, group_size: int | None) -> keras.Model:
    """(batch, size, size, channels) -> (batch, features)."""
    maps = keras.Input((size, size, channels))
    x = MinibatchStddev(group_size, name="stddev")(maps)
    x = EqualizedConv2D(channels, 3, name=f"conv_{size}_0")(x)
    x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}_0")(x)
    x = layers.Flatten(name="flatten")(x)
    x = EqualizedDense(features, name="features")(x)
    x = layers.LeakyReLU(LEAK, name="leaky_relu_features")(x)
    return keras.Model(maps, x, name=f"block_{size}")
