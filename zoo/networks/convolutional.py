"""DCGAN's pair (arXiv:1511.06434, section 3) for any power-of-two size, channel count and width.

Strided convolutions instead of pooling, batch norm in both networks except at the generator's output and the
discriminator's input, ReLU and tanh against leaky ReLU, no hidden dense layers, weights from N(0, 0.02). A critic
(WGAN-GP, arXiv:1704.00028, section 4) has layer norm in batch norm's place.
"""

from collections.abc import Callable
from typing import Literal

import keras
from keras import layers

from zoo.core.arguments import choose
from zoo.core.precision import full_precision
from zoo.core.replicas import replicas_in_sync
from zoo.layers.dropout import Dropout
from zoo.layers.layer_norm import LayerNorm
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.layers.spectral_norm import SpectralNorm

KERNEL = 4  # Paper: 5. 4 is a multiple of the stride, so every output pixel is covered equally (no checkerboard).
LEAK = 0.2  # DCGAN, section 4
BASE = 4  # pixels a side of the smallest map
WIDEST = 8  # the widest map has 8 times `width` channels, as at the paper's 64x64
DISCRIMINATION = (50, 5)  # kernels and dimensions of minibatch discrimination
MINIBATCH = ("none", "stddev", "discrimination")

Norm = Literal["batch", "layer", "spectral", "none"]
Minibatch = Literal["none", "stddev", "discrimination"]


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
    latent = keras.Input((latent_dim,), name="latent")
    return keras.Model(latent, upward(latent, image_shape, width), name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    width: int = 64,
    norm: Norm = "batch",
    dropout: float = 0.0,
    minibatch: Minibatch = "none",
    logit_bias: bool = True,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (size, size, channels), size a power of two >= 8.
        width: channels of the largest map; they double as the map halves, up to 8 times `width`.
        norm: "batch", of every map but the largest, as published; "layer" in its place; "spectral", of every kernel
            (SN-GAN, arXiv:1802.05957); or "none". With all but "batch" each row's logit depends on that row alone.
        dropout: rate after every activation.
        minibatch: what the last maps say of the other rows: "stddev" (ProGAN, arXiv:1710.10196, section 3),
            "discrimination" (arXiv:1606.03498, section 3.2; one replica only) or "none".
        logit_bias: False where the loss sees only differences of logits, as a critic's does.
        name: of the network.
    """
    image = keras.Input(image_shape, name="image")
    features = downward(image, image_shape, width, norm, dropout, minibatch)
    head = layers.Dense(1, use_bias=logit_bias, kernel_initializer=normal(), dtype=full_precision(), name="logit")
    return keras.Model(image, wrapper(norm)(head)(features), name=name)


def upward(
    latent: keras.KerasTensor,
    image_shape: tuple[int, int, int],
    width: int,
    norm: Callable[[str], Callable[[keras.KerasTensor], keras.KerasTensor]] | None = None,
) -> keras.KerasTensor:
    """The generator's layers: latent (batch, size) -> image.

    Args:
        latent: what the image is made of.
        image_shape: see `generator`.
        width: see `generator`.
        norm: name -> a normalization of maps; batch norm by default.
    """
    norm = norm or batch_norm
    channels = map_channels(image_shape, width)
    x = layers.Dense(BASE * BASE * channels[-1], use_bias=False, kernel_initializer=normal(), name="project")(latent)
    x = layers.Reshape((BASE, BASE, channels[-1]), name="reshape")(x)
    x = norm("norm_4")(x)
    x = layers.ReLU(name="relu_4")(x)
    for number, count in enumerate(reversed(channels[:-1]), start=1):
        size = BASE * 2**number
        x = layers.Conv2DTranspose(
            count, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal(), name=f"up_{size}"
        )(x)
        x = norm(f"norm_{size}")(x)
        x = layers.ReLU(name=f"relu_{size}")(x)
    x = layers.Conv2DTranspose(image_shape[-1], KERNEL, 2, "same", kernel_initializer=normal(), name="pixels")(x)
    return layers.Activation("tanh", dtype=full_precision(), name="image")(x)


def downward(
    x: keras.KerasTensor,
    image_shape: tuple[int, int, int],
    width: int,
    norm: Norm,
    dropout: float = 0.0,
    minibatch: Minibatch = "none",
) -> keras.KerasTensor:
    """The discriminator's layers but the last: maps of an image's size -> features (batch, size).

    Args:
        x: the image, with more channels if need be; the others: see `discriminator`.
    """
    normalize, wrap = choose("norm", norm, NORMS), wrapper(norm)
    choose("minibatch", minibatch, dict.fromkeys(MINIBATCH))
    for number, count in enumerate(map_channels(image_shape, width), start=1):
        size = image_shape[0] // 2**number
        layer = normalize(f"norm_{size}") if normalize and number > 1 else None
        convolution = layers.Conv2D(
            count, KERNEL, 2, "same", use_bias=layer is None, kernel_initializer=normal(), name=f"down_{size}"
        )
        x = wrap(convolution)(x)
        x = x if layer is None else layer(x)
        x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{size}")(x)
        x = Dropout(dropout, name=f"dropout_{size}")(x) if dropout else x
    x = MinibatchStddev(name="stddev")(x) if minibatch == "stddev" else x
    x = layers.Flatten(name="flatten")(x)
    return MinibatchDiscrimination(*DISCRIMINATION, name="others")(x) if minibatch == "discrimination" else x


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
            f"image_shape={image_shape}: these networks take square images with a power-of-two side >= "
            f"{smallest}; resize or pad them first (28x28 becomes 32x32 by padding)."
        )
    return (side // BASE).bit_length() - 1


def wrapper(norm: Norm) -> Callable[[keras.layers.Layer], keras.layers.Layer]:
    """What a layer with a kernel is put into: `SpectralNorm`, or nothing."""
    return SpectralNorm if norm == "spectral" else lambda layer: layer


def batch_norm(name: str, affine: bool = True) -> keras.layers.Layer:
    """Batch norm over the global batch; momentum and epsilon as in the authors' code."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, center=affine, scale=affine, synchronized=replicas_in_sync() > 1, name=name
    )


def layer_norm(name: str) -> keras.layers.Layer:
    """Over all values of a row, with a scale and a shift per channel; epsilon as in WGAN-GP's authors' code."""
    return LayerNorm(epsilon=1e-5, name=name)


NORMS = {"batch": batch_norm, "layer": layer_norm, "spectral": None, "none": None}


def normal() -> keras.initializers.Initializer:
    """A fresh initializer: an instance draws the same numbers each time it is called."""
    return keras.initializers.RandomNormal(0.0, 0.02)  # DCGAN, section 4
