"""PatchGAN (pix2pix, arXiv:1611.07004, appendix 6.1.2): a discriminator that judges overlapping patches of an image."""

from typing import Literal

import keras
from keras import layers

from zoo.core.arguments import choose
from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D
from zoo.layers.normalization import InstanceNorm
from zoo.networks.convolutional import LEAK, batch_norm, normal

KERNEL = 4
WIDEST = 8  # the widest maps have 8 times `width` channels
SMALL = 128  # pixels a side below which patches are 34x34

NORMS = {"batch": batch_norm, "instance": lambda name: InstanceNorm(name=name)}


def discriminator(
    channels: int,
    width: int = 64,
    halvings: int = 3,
    norm: Literal["batch", "instance"] = "instance",
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, height, width, channels) -> logits of patches (batch, rows, columns, 1), unbounded.

    Each logit is of a patch of 34x34 pixels with two halvings, of 70x70 with three, as published.

    Args:
        channels: of the image, or of what is concatenated with it.
        width: channels of the first maps; they double from layer to layer, up to 8 times as many.
        halvings: convolutions with stride 2.
        norm: of all maps but the first and the last: "batch" (pix2pix) or "instance" (CycleGAN).
        name: of the network.
    """
    normalize = choose("norm", norm, NORMS)
    image = keras.Input((None, None, channels), name="image")
    x = image
    for number in range(halvings + 1):
        filters, stride = width * min(2**number, WIDEST), 2 if number < halvings else 1
        x = layers.ZeroPadding2D(1, name=f"padding_{number}")(x)
        convolution = Conv2D(
            filters, KERNEL, stride, use_bias=number == 0, kernel_initializer=normal(), name=f"convolution_{number}"
        )
        x = convolution(x)
        x = normalize(f"norm_{number}")(x) if number else x
        x = layers.LeakyReLU(LEAK, name=f"leaky_relu_{number}")(x)
    x = layers.ZeroPadding2D(1, name="padding_last")(x)
    logits = Conv2D(1, KERNEL, kernel_initializer=normal(), dtype=full_precision(), name="logit")(x)
    return keras.Model(image, logits, name=name)


def choose_halvings(image_shape: tuple[int, int, int]) -> int:
    """Those of patches of 70x70 pixels from 128 pixels a side on, of 34x34 below."""
    return 3 if max(image_shape[:2]) >= SMALL else 2
