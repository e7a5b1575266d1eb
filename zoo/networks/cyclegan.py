"""CycleGAN's translator (arXiv:1703.10593, appendix 7.2), for images of any size.

c7s1-w, d2w, d4w, residual blocks of 4w, u2w, uw, c7s1-channels: reflection padding, instance norm and ReLU; weights
from N(0, 0.02). Around it the image is continued to sides that are multiples of 4, and cropped again.
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.layers.normalization import InstanceNorm
from zoo.layers.padding import CropLike, PadToMultiple, ReflectionPadding2D
from zoo.networks.convolutional import normal

HALVINGS = 2
LEAST = 16  # pixels a side that what is padded by 3 or, at a quarter of the side, by 1 has at least
BLOCKS = {128: 6, 256: 9}  # residual blocks by the side that they are published for


def translator(channels: tuple[int, int], width: int = 64, blocks: int = 6, name: str = "translator") -> keras.Model:
    """image (batch, height, width, channels[0]) -> translation (batch, height, width, channels[1]), in [-1, 1].

    Args:
        channels: of the images, and of their translations.
        width: channels of the largest maps; 64 as published.
        blocks: residual blocks.
        name: of the network.
    """
    image = keras.Input((None, None, channels[0]), name="image")
    x = PadToMultiple(2**HALVINGS, LEAST, name="padded")(image)
    x = ReflectionPadding2D(3, name="padding_in")(x)
    x = normalized(Conv2D(width, 7, use_bias=False, kernel_initializer=normal(), name="first")(x), "first")
    for number in range(1, HALVINGS + 1):
        down = Conv2D(
            width * 2**number, 3, 2, "same", use_bias=False, kernel_initializer=normal(), name=f"down_{number}"
        )
        x = normalized(down(x), f"down_{number}")
    for number in range(1, blocks + 1):
        x = residual_block(x, width * 2**HALVINGS, f"block_{number}")
    for number in reversed(range(HALVINGS)):
        up = Conv2DTranspose(
            width * 2**number, 3, 2, "same", use_bias=False, kernel_initializer=normal(), name=f"up_{number}"
        )
        x = normalized(up(x), f"up_{number}")
    x = ReflectionPadding2D(3, name="padding_out")(x)
    x = Conv2D(channels[1], 7, kernel_initializer=normal(), name="pixels")(x)
    x = CropLike(name="cropped")([x, image])
    return keras.Model(image, layers.Activation("tanh", dtype=full_precision(), name="translation")(x), name=name)


def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Instance norm and ReLU.

    Authors' code: convolutions before an instance norm have a bias. None here: the norm takes it away again.
    """
    return layers.ReLU(name=f"{name}_relu")(InstanceNorm(name=f"{name}_norm")(x))


def residual_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions with instance norm, a ReLU between them and none after the sum."""
    residual = x
    for number in (1, 2):
        label = f"{name}_{number}"
        residual = ReflectionPadding2D(1, name=f"{label}_padding")(residual)
        residual = Conv2D(width, 3, use_bias=False, kernel_initializer=normal(), name=label)(residual)
        residual = InstanceNorm(name=f"{label}_norm")(residual)
        residual = layers.ReLU(name=f"{label}_relu")(residual) if number == 1 else residual
    return layers.Add(name=name)([residual, x])


def count_blocks(image_shape: tuple[int, int, int]) -> int:
    """Residual blocks that are published for images of this size; for other sizes those of the nearest below."""
    side = max(image_shape[:2])
    return BLOCKS[256] if side >= 256 else BLOCKS[128]
