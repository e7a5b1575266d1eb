"""pix2pix' translator (arXiv:1611.07004, appendix 6.1.1): an encoder and a decoder whose maps of one size are joined.

C w - C 2w - C 4w - C 8w - C 8w ..., each a 4x4 convolution that halves the maps; then the way back, with what the
encoder had at each size beside it. Batch norm but for the first and the innermost maps, leaky ReLU down, ReLU up.
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.layers.dropout import Dropout
from zoo.layers.padding import CropLike, PadToMultiple
from zoo.networks.convolutional import LEAK, batch_norm, normal

KERNEL = 4
WIDEST = 8  # the widest maps have 8 times `width` channels
DROPOUT = 0.5
OUTER = 4  # steps of the decoder, the last ones, without dropout: of the published 8 the first 3 have it


def translator(
    channels: tuple[int, int], width: int = 64, halvings: int = 8, dropout: float = DROPOUT, name: str = "translator"
) -> keras.Model:
    """image (batch, height, width, channels[0]) -> translation (batch, height, width, channels[1]), in [-1, 1].

    Args:
        channels: of the images, and of their translations.
        width: channels of the largest maps; 64 as published.
        halvings: until the innermost maps, which of 256x256 pixels are 1x1 with 8, as published.
        dropout: rate, of the innermost maps on the way back.
        name: of the network.
    """
    image = keras.Input((None, None, channels[0]), name="image")
    x = PadToMultiple(2**halvings, name="padded")(image)
    widths = [width * min(2**number, WIDEST) for number in range(halvings)]
    encoded = []
    for number, filters in enumerate(widths):
        bare = number in (0, halvings - 1)
        x = layers.LeakyReLU(LEAK, name=f"down_{number}_leaky_relu")(x) if number else x
        convolution = Conv2D(
            filters, KERNEL, 2, "same", use_bias=bare, kernel_initializer=normal(), name=f"down_{number}"
        )
        x = convolution(x)
        x = x if bare else batch_norm(f"down_{number}_norm")(x)
        encoded.append(x)
    for number in reversed(range(1, halvings)):
        filters = widths[number - 1]
        x = layers.ReLU(name=f"up_{number}_relu")(x)
        convolution = Conv2DTranspose(
            filters, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal(), name=f"up_{number}"
        )
        x = batch_norm(f"up_{number}_norm")(convolution(x))
        if dropout and number > OUTER:
            x = Dropout(dropout, name=f"up_{number}_dropout")(x)
        x = layers.Concatenate(name=f"joined_{number}")([encoded[number - 1], x])
    x = layers.ReLU(name="last_relu")(x)
    x = Conv2DTranspose(channels[1], KERNEL, 2, "same", kernel_initializer=normal(), name="pixels")(x)
    x = CropLike(name="cropped")([x, image])
    return keras.Model(image, layers.Activation("tanh", dtype=full_precision(), name="translation")(x), name=name)


def count_halvings(image_shape: tuple[int, int, int]) -> int:
    """As many as bring the smaller side to 1 pixel, from 2 to the 8 that are published for 256 pixels."""
    return min(max(min(image_shape[:2]).bit_length() - 1, 2), 8)
