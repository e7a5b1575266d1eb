"""The Inception network published in 2015 (arXiv:1512.00567), whose features are those of FID, KID and IS.

The layers are those of the graph "inception-2015-12-05", its oddities included: another Inception's scores have no
right to these names. A convolution has the name of its node in the graph, with dots for slashes.
"""

from typing import Any

import keras
from keras import layers, ops

from zoo.core.precision import computing_in, full_precision

SIDE = 299  # pixels, of what the first convolution sees
FEATURES, CLASSES = 2048, 1008
EPSILON = 1e-3  # of the batch norms

Size = int | tuple[int, int]


def inception_2015(name: str = "inception_2015") -> keras.Model:
    """image (batch, height, width, 3), float32 in [-1, 1] -> features (batch, 2048), >= 0, and logits (batch, 1008).

    Height and width are free: the image is resized inside, as the published graph does. Values are not rounded:
    whoever scores images as they are stored rounds to 256 levels before. features: the graph's last pool, "pool_3".
    logits: without the graph's bias, as the authors of the Inception Score take them. Whatever the policy, all
    computes in float32.
    """
    with computing_in(full_precision()):
        image = keras.Input((None, None, 3), name="image")
        x = Resize(name="resize")(image)
        x = convolution(x, "conv", 32, 3, 2)  # (B, 149, 149, 32)
        x = convolution(x, "conv_1", 32, 3, padding="valid")
        x = convolution(x, "conv_2", 64, 3)
        x = layers.MaxPooling2D(3, 2, name="pool")(x)  # (B, 73, 73, 64)
        x = convolution(x, "conv_3", 80, 1)
        x = convolution(x, "conv_4", 192, 3, padding="valid")
        x = layers.MaxPooling2D(3, 2, name="pool_1")(x)  # (B, 35, 35, 192)
        for path, channels in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
            x = square_block(x, path, channels)
        x = first_halving(x, "mixed_3")  # (B, 17, 17, 768)
        for path, channels in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
            x = factorized_block(x, path, channels)
        x = second_halving(x, "mixed_8")  # (B, 8, 8, 1280)
        x = wide_block(x, "mixed_9", layers.AveragePooling2D)
        # Paper: the average, as in every other block. The published graph takes the largest value here.
        x = wide_block(x, "mixed_10", layers.MaxPooling2D)
        features = layers.GlobalAveragePooling2D(name="features")(x)
        logits = layers.Dense(CLASSES, use_bias=False, name="logits")(features)
        return keras.Model(image, [features, logits], name=name)


class Resize(layers.Layer):
    """(batch, height, width, channels) in [-1, 1] -> (batch, 299, 299, channels) in [-1, 127/128].

    Bilinear, as TensorFlow 1 does it: pixel i of the result lies at i * length / 299 of the image, so both have their
    first pixel in common (`keras.ops.image.resize` has their centers in common). Then (level - 128) / 128, where level
    is 0 to 255.
    """

    def call(self, image: Any) -> Any:  # noqa: D102
        x = (image + 1.0) * 127.5
        for axis in (2, 1):
            x = stretched(x, axis)
        return (x - 128.0) / 128.0

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:  # noqa: D102
        return (input_shape[0], SIDE, SIDE, input_shape[3])


def stretched(x: Any, axis: int) -> Any:
    """Linear interpolation along one axis of (batch, height, width, channels), which then is 299 long."""
    length = ops.shape(x)[axis]
    place = ops.arange(SIDE, dtype="float32") * (ops.cast(length, "float32") / SIDE)
    before = ops.cast(place, "int32")
    after = ops.minimum(before + 1, length - 1)
    share = ops.reshape(place - ops.cast(before, "float32"), (-1, 1) if axis == 2 else (-1, 1, 1))
    near = ops.take(x, before, axis)
    return near + (ops.take(x, after, axis) - near) * share


def convolution(x: Any, path: str, filters: int, size: Size, stride: int = 1, padding: str | None = None) -> Any:
    """Convolution, batch norm, ReLU. Padded, so that the map keeps its size, unless the stride halves it."""
    padding = padding or ("same" if stride == 1 else "valid")
    x = layers.Conv2D(filters, size, stride, padding, use_bias=False, name=path)(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{path}.batchnorm")(x)
    return layers.ReLU(name=f"{path}.relu")(x)


def tower(x: Any, path: str, *convolutions: tuple[int, Size] | tuple[int, Size, int]) -> Any:
    """Convolutions (filters, size, stride or none) one after the other."""
    for number, arguments in enumerate(convolutions):
        x = convolution(x, f"{path}.conv_{number}" if number else f"{path}.conv", *arguments)
    return x


def pooled(x: Any, path: str, filters: int, pool: Any = layers.AveragePooling2D) -> Any:
    """A 3x3 pool, which leaves out what lies beyond the border, and a 1x1 convolution."""
    return tower(pool(3, 1, "same", name=f"{path}.pool")(x), path, (filters, 1))


def square_block(x: Any, path: str, channels: int) -> Any:
    """Figure 5, with a 5x5 convolution left whole; `channels`: of the pooled branch."""
    branches = [
        tower(x, path, (64, 1)),
        tower(x, f"{path}.tower", (48, 1), (64, 5)),
        tower(x, f"{path}.tower_1", (64, 1), (96, 3), (96, 3)),
        pooled(x, f"{path}.tower_2", channels),
    ]
    return layers.Concatenate(name=f"{path}.join")(branches)


def first_halving(x: Any, path: str) -> Any:
    """Figure 10: 35x35 -> 17x17."""
    branches = [
        tower(x, path, (384, 3, 2)),
        tower(x, f"{path}.tower", (64, 1), (96, 3), (96, 3, 2)),
        layers.MaxPooling2D(3, 2, name=f"{path}.pool")(x),
    ]
    return layers.Concatenate(name=f"{path}.join")(branches)


def factorized_block(x: Any, path: str, channels: int) -> Any:
    """Figure 6 with n = 7; `channels`: between the factors."""
    row, column = (1, 7), (7, 1)
    steps = ((channels, column), (channels, row), (channels, column))
    branches = [
        tower(x, path, (192, 1)),
        tower(x, f"{path}.tower", (channels, 1), (channels, row), (192, column)),
        tower(x, f"{path}.tower_1", (channels, 1), *steps, (192, row)),
        pooled(x, f"{path}.tower_2", 192),
    ]
    return layers.Concatenate(name=f"{path}.join")(branches)


def second_halving(x: Any, path: str) -> Any:
    """17x17 -> 8x8."""
    branches = [
        tower(x, f"{path}.tower", (192, 1), (320, 3, 2)),
        tower(x, f"{path}.tower_1", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
        layers.MaxPooling2D(3, 2, name=f"{path}.pool")(x),
    ]
    return layers.Concatenate(name=f"{path}.join")(branches)


def wide_block(x: Any, path: str, pool: Any) -> Any:
    """Figure 7: the last factors side by side."""
    branches = [
        tower(x, path, (320, 1)),
        side_by_side(tower(x, f"{path}.tower", (384, 1)), f"{path}.tower.mixed"),
        side_by_side(tower(x, f"{path}.tower_1", (448, 1), (384, 3)), f"{path}.tower_1.mixed"),
        pooled(x, f"{path}.tower_2", 192, pool),
    ]
    return layers.Concatenate(name=f"{path}.join")(branches)


def side_by_side(x: Any, path: str) -> Any:
    """A row and a column of the same map."""
    parts = [convolution(x, f"{path}.conv", 384, (1, 3)), convolution(x, f"{path}.conv_1", 384, (3, 1))]
    return layers.Concatenate(name=f"{path}.join")(parts)
