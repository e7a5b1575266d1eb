"""SRGAN's pair (arXiv:1609.04802, figure 4): SRResNet, which enlarges an image of any size, and its discriminator.

No initializer is published. Weights begin as Keras' (Glorot's, uniform), the sub-pixel convolutions' too: ICNR
(arXiv:1707.02937), which begins them as nearest neighbors, came later, and the 9x9 convolution behind them mixes the
sub-pixels from the first step on. Slopes of PReLU begin at 0.25, as in its own paper (arXiv:1502.01852, section 2.1).
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D
from zoo.layers.resampling import PixelShuffle
from zoo.networks.convolutional import batch_norm

LEAK = 0.2  # section 2.1.1
SLOPE = 0.25
END_KERNEL = 9  # pixels a side, of the first and the last convolution
UNITS = 16  # of the hidden dense layer, times the width: 1,024 of 64
GROWTH = (1, 2, 4, 8)  # of the discriminator's maps, in widths; two convolutions each, the second with stride 2
SCALES = {2: 1, 4: 2}  # factor -> stages that double the maps


def generator(channels: int, scale: int = 4, width: int = 64, blocks: int = 16, name: str = "generator") -> keras.Model:
    """image (batch, height, width, channels) -> upscaled (batch, scale height, scale width, channels), unbounded.

    Args:
        channels: of the images.
        scale: 2 or 4.
        width: channels of all maps; 64 as published.
        blocks: residual blocks; 16 as published.
        name: of the network.
    """
    image = keras.Input((None, None, channels), name="image")
    first = prelu("first_prelu")(Conv2D(width, END_KERNEL, padding="same", name="first")(image))
    x = first
    for number in range(1, blocks + 1):
        x = residual_block(x, width, f"block_{number}")
    x = layers.Add(name="long_skip")([normalized(x, width, "last"), first])
    for number in range(1, SCALES[scale] + 1):
        x = Conv2D(4 * width, 3, padding="same", name=f"up_{number}")(x)
        x = prelu(f"up_{number}_prelu")(PixelShuffle(2, name=f"up_{number}_shuffle")(x))
    x = Conv2D(channels, END_KERNEL, padding="same", name="pixels")(x)
    return keras.Model(image, layers.Activation("linear", dtype=full_precision(), name="upscaled")(x), name=name)


def discriminator(image_shape: tuple[int, int, int], width: int = 64, name: str = "discriminator") -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (height, width, channels).
        width: channels of the largest maps; 64 as published.
        name: of the network.
    """
    image = keras.Input(image_shape, name="image")
    x, number = image, 0
    for factor in GROWTH:
        for stride in (1, 2):
            number += 1
            label, bare = f"convolution_{number}", x is image
            x = Conv2D(factor * width, 3, stride, "same", use_bias=bare, name=label)(x)
            x = x if bare else batch_norm(f"{label}_norm")(x)
            x = layers.LeakyReLU(LEAK, name=f"{label}_leaky_relu")(x)
    x = layers.Dense(UNITS * width, name="hidden")(layers.Flatten(name="flatten")(x))
    x = layers.LeakyReLU(LEAK, name="hidden_leaky_relu")(x)
    return keras.Model(image, layers.Dense(1, dtype=full_precision(), name="logit")(x), name=name)


def residual_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions with batch norm, PReLU between them and nothing after the sum."""
    residual = prelu(f"{name}_prelu")(normalized(x, width, f"{name}_1"))
    return layers.Add(name=name)([normalized(residual, width, f"{name}_2"), x])


def normalized(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """A 3x3 convolution, without a bias that the norm would take away again, and batch norm."""
    return batch_norm(f"{name}_norm")(Conv2D(width, 3, padding="same", use_bias=False, name=name)(x))


def prelu(name: str) -> keras.layers.Layer:
    """ReLU with a learned slope below 0, one a channel."""
    return layers.PReLU(keras.initializers.Constant(SLOPE), shared_axes=[1, 2], name=name)


def check_scale(image_shape: tuple[int, int, int], scale: int) -> None:
    """Refuse a factor, or images that it does not divide.

    Raises:
        ValueError: naming the argument.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale}: choose from {sorted(SCALES)}.")
    if any(side % scale or not side for side in image_shape[:2]):
        raise ValueError(f"image_shape={image_shape}: both sides must be multiples of scale={scale}.")
