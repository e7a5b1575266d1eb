"""DCGAN's pair (arXiv:1511.06434, section 3) for any power-of-two size, channel count and width.

Strided convolutions instead of pooling, batch norm in both networks except at the generator's output and the
discriminator's input, ReLU and tanh against leaky ReLU, no hidden dense layers, weights from N(0, 0.02). A critic
(WGAN-GP, arXiv:1704.00028, section 4) has layer norm in batch norm's place.
"""

from typing import Literal

import keras
from keras import layers

from zoo.core.layers import SpectralNorm
from zoo.core.losses import choose
from zoo.core.precision import full_precision
from zoo.core.step import replicas_in_sync

KERNEL = 4  # Paper: 5. 4 is a multiple of the stride, so every output pixel is covered equally (no checkerboard).
LEAK = 0.2  # DCGAN, section 4
BASE = 4  # pixels a side of the smallest map
WIDEST = 8  # the widest map has 8 times `width` channels, as at the paper's 64x64


def generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 64, name: str = "generator"
) -> keras.Model:
    """latent (batch, latent_dim) -> image (batch, *image_shape), float32 in [-1, 1].

    Args:
        image_shape: (size, size, channels), size a power of two >= 8.
        latent_dim: length of a latent vector.
        width: channels of the largest map; they double as the map halves, up to 8 times `width`.
        name: of the network.
    """
    channels = map_channels(image_shape, width)
    latent = keras.Input((latent_dim,), name="latent")
    x = layers.Dense(BASE * BASE * channels[-1], use_bias=False, kernel_initializer=normal(), name="project")(latent)
    x = layers.Reshape((BASE, BASE, channels[-1]), name="reshape")(x)
    x = batch_norm("norm_4")(x)
    x = layers.ReLU(name="relu_4")(x)
    for number, count in enumerate(reversed(channels[:-1]), start=1):
        size = BASE * 2**number
        x = layers.Conv2DTranspose(
            count, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal(), name=f"up_{size}"
        )(x)
        x = batch_norm(f"norm_{size}")(x)
        x = layers.ReLU(name=f"relu_{size}")(x)
    x = layers.Conv2DTranspose(image_shape[-1], KERNEL, 2, "same", kernel_initializer=normal(), name="pixels")(x)
    image = layers.Activation("tanh", dtype=full_precision(), name="image")(x)
    return keras.Model(latent, image, name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    width: int = 64,
    normalization: Literal["batch", "layer"] | None = "batch",
    logit_bias: bool = True,
    spectral_norm: bool = False,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (size, size, channels), size a power of two >= 8.
        width: channels of the largest map; they double as the map halves, up to 8 times `width`.
        normalization: of every map but the largest, "batch" as published; with "layer" or None each row's logit depends
            on that row alone.
        logit_bias: False where the loss sees only differences of logits, as a critic's does.
        spectral_norm: of every kernel (SN-GAN, arXiv:1802.05957); meant for normalization=None, since a norm would
            scale the maps anew.
        name: of the network.
    """
    normalize = None if normalization is None else choose("normalization", normalization, NORMALIZATIONS)
    wrap = SpectralNorm if spectral_norm else unwrapped
    image = keras.Input(image_shape, name="image")
    x = image
    for number, count in enumerate(map_channels(image_shape, width), start=1):
        size = image_shape[0] // 2**number
        norm = normalize(f"norm_{size}") if normalize and number > 1 else None
        convolution = layers.Conv2D(
            count, KERNEL, 2, "same", use_bias=norm is None, kernel_initializer=normal(), name=f"down_{size}"
        )
        x = wrap(convolution)(x)
        x = x if norm is None else norm(x)
        x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}")(x)
    x = layers.Flatten(name="flatten")(x)
    head = layers.Dense(1, use_bias=logit_bias, kernel_initializer=normal(), dtype=full_precision(), name="logit")
    return keras.Model(image, wrap(head)(x), name=name)


def map_channels(image_shape: tuple[int, int, int], width: int) -> list[int]:
    """Channels of the maps from half the image's size down to 4x4.

    Raises:
        ValueError: the image is not square with a power-of-two side >= 8.
    """
    stages = halvings(image_shape, smallest=2 * BASE)
    return [width * min(2**stage, WIDEST) for stage in range(stages)]


def halvings(image_shape: tuple[int, int, int], smallest: int) -> int:
    """How often the image's side halves until it is 4.

    Raises:
        ValueError: the image is not square with a power-of-two side >= smallest.
    """
    height, side, _ = image_shape
    if height != side or side < smallest or side & (side - 1):
        raise ValueError(
            f"image_shape={image_shape}: these networks take square pictures with a power-of-two side >= "
            f"{smallest}; resize or pad them first (28x28 becomes 32x32 by padding)."
        )
    return (side // BASE).bit_length() - 1


def unwrapped(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer as it is."""
    return layer


def batch_norm(name: str) -> keras.layers.Layer:
    """Batch norm over the global batch; momentum and epsilon as in the authors' code."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=replicas_in_sync() > 1, name=name)


def layer_norm(name: str) -> keras.layers.Layer:
    """Over all values of a row, with a scale and a shift a channel; epsilon as in WGAN-GP's authors' code.

    `keras.layers.LayerNormalization` over the same axes would have a scale and a shift a pixel.
    """
    return layers.GroupNormalization(groups=1, epsilon=1e-5, name=name)


NORMALIZATIONS = {"batch": batch_norm, "layer": layer_norm}


def normal() -> keras.initializers.Initializer:
    """A fresh initializer: an instance draws the same numbers each time it is called."""
    return keras.initializers.RandomNormal(0.0, 0.02)  # DCGAN, section 4
