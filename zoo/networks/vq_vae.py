"""VQ-VAE's pair (arXiv:1711.00937, section 4.1): convolutions that halve an image, residual blocks, and the reverse.

Paper: 256 channels everywhere. As in the authors' code, the maps of larger sides and the inner ones of a residual block
have fewer, a 3x3 convolution stands between halvings and blocks, and a 1x1 convolution gives the codes' dimension.
"""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.networks.coders import KERNEL, STRIDE, Shape, smallest

BLOCK_KERNEL = 3


def encoder(
    image_shape: Shape,
    code_dim: int,
    hidden: Sequence[int],
    blocks: int = 2,
    block_width: int = 32,
    name: str = "encoder",
) -> keras.Model:
    """image (batch, *image_shape) in [-1, 1] -> vectors (batch, height / 2^n, width / 2^n, code_dim), unbounded.

    Args:
        image_shape: (height, width, channels).
        code_dim: D.
        hidden: channels of the n strided convolutions, each of which halves both sides; the residual blocks have the
            last of them.
        blocks: residual blocks.
        block_width: channels inside of a block.
        name: of the network.

    Raises:
        ValueError: sides that can't be halved so often.
    """
    smallest(image_shape, hidden)
    image = keras.Input(image_shape, name="image")
    x = image
    for number, channels in enumerate(hidden, start=1):
        x = Conv2D(channels, KERNEL, STRIDE, "same", activation="relu", name=f"down_{number}")(x)
    x = Conv2D(hidden[-1], BLOCK_KERNEL, padding="same", name="inner")(x)
    x = residual_blocks(x, blocks, block_width)
    vectors = Conv2D(code_dim, 1, padding="same", dtype=full_precision(), name="vectors")(x)
    return keras.Model(image, vectors, name=name)


def decoder(
    image_shape: Shape,
    code_dim: int,
    hidden: Sequence[int],
    blocks: int = 2,
    block_width: int = 32,
    name: str = "decoder",
) -> keras.Model:
    """Vectors (batch, height / 2^n, width / 2^n, code_dim) -> values (batch, *image_shape), unbounded.

    Args:
        image_shape, code_dim, hidden, blocks, block_width: of the encoder that it reverses.
        name: of the network.
    """
    *channels, deepest = hidden
    vectors = keras.Input((*smallest(image_shape, hidden), code_dim), name="vectors")
    x = Conv2D(deepest, BLOCK_KERNEL, padding="same", name="inner")(vectors)
    x = residual_blocks(x, blocks, block_width)
    for number, count in enumerate(reversed(channels), start=1):
        x = Conv2DTranspose(count, KERNEL, STRIDE, "same", activation="relu", name=f"up_{number}")(x)
    values = Conv2DTranspose(image_shape[-1], KERNEL, STRIDE, "same", dtype=full_precision(), name="values")(x)
    return keras.Model(vectors, values, name=name)


def residual_blocks(x: keras.KerasTensor, blocks: int, width: int) -> keras.KerasTensor:
    """So many times x + (ReLU, 3x3, ReLU, 1x1), then a ReLU."""
    for number in range(1, blocks + 1):
        name = f"block_{number}"
        residual = layers.ReLU(name=f"{name}_relu")(x)
        residual = Conv2D(width, BLOCK_KERNEL, padding="same", activation="relu", name=f"{name}_3x3")(residual)
        residual = Conv2D(x.shape[-1], 1, padding="same", name=f"{name}_1x1")(residual)
        x = layers.Add(name=name)([x, residual])
    return layers.ReLU(name="relu")(x)
