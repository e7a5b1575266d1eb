"""Maps with twice or half the sides, through a low-pass filter (StyleGAN, arXiv:1812.04948, section 2, "bilinear").

Filters are separable, and zeros lie around a map, as in the authors' code. With its [1, 3, 3, 1] = [1, 1] * [1, 2, 1],
images are doubled by nearest neighbors and `Blur()`, which on their inside is bilinear interpolation, and halved by
`Blur((1, 3, 3, 1), (1, 1), stride=2)`. Convolutions that double or halve are computed in one operation.

`PixelShuffle` enlarges by rearranging channels (ESPCN, arXiv:1609.05158). `resize_bicubic` gives images the sizes and
gray levels that Pillow's BICUBIC does.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.core import convolution
from zoo.core.types import Tensor
from zoo.layers.equalized import EqualizedConv2D

CHANNELS_LAST = "channels_last"  # whatever Keras' setting is when a layer is called
TAPS = (1, 3, 3, 1)
UP_PADDING = (1, 1)  # of TAPS behind a transposed convolution, 3x3 with stride 2: 2 n + 1 -> 2 n
DOWN_PADDING = (2, 2)  # of TAPS before a convolution, 3x3 with stride 2: n -> n + 1
KEYS = -0.5  # a of the bicubic kernel, in Pillow; Keys, IEEE Transactions on Acoustics 29(6), 1981
REACH = 2.0  # pixels of the coarser grid that the kernel reaches to either side


def blur(maps: Tensor, taps: Sequence[float], padding: tuple[int, int], stride: int = 1, gain: float = 1.0) -> Tensor:
    """Each channel convolved with the outer product of `taps` with itself, brought to a sum of `gain`.

    Args:
        maps: (batch, height, width, channels), floating.
        taps: of the filter along one side.
        padding: zeros before and after the map, along each side.
        stride: of both sides.
        gain: what a constant is multiplied by.
    """
    line = np.asarray(taps) / np.sum(taps)
    channels, dtype = maps.shape[-1], keras.backend.standardize_dtype(maps.dtype)
    kernel = np.tile(gain * np.outer(line, line)[:, :, None, None], (1, 1, channels, 1))
    maps = ops.pad(maps, [(0, 0), padding, padding, (0, 0)])
    return ops.depthwise_conv(maps, ops.convert_to_tensor(kernel, dtype), stride, "valid", CHANNELS_LAST)


@keras.saving.register_keras_serializable("zoo")
class Blur(keras.layers.Layer):
    """A low-pass filter over each channel, with no weights.

    Args:
        taps: of the filter along one side; their sum is brought to 1.
        padding: zeros before and after the map, along each side.
        stride: of both sides.
    """

    def __init__(
        self, taps: Sequence[float] = (1, 2, 1), padding: tuple[int, int] = (1, 1), stride: int = 1, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.taps = tuple(taps)
        self.padding = (padding[0], padding[1])
        self.stride = stride

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> likewise; side + padding - taps + 1 pixels, over the stride, a side."""
        return blur(inputs, self.taps, self.padding, self.stride)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "taps": self.taps, "padding": self.padding, "stride": self.stride}


@keras.saving.register_keras_serializable("zoo")
class EqualizedUpConv2D(EqualizedConv2D):
    """Nearest neighbors, then `EqualizedConv2D`: as one transposed convolution, for 3x3 with 4 / 9 of the products."""

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, 2 height, 2 width, filters)."""
        kernel = ops.flip(ops.transpose(sum_of_shifts(self.scaled_kernel()), (0, 1, 3, 2)), (0, 1))
        return self.add_bias(convolution.convolve_transposed(inputs, kernel, 2))


@keras.saving.register_keras_serializable("zoo")
class EqualizedDownConv2D(EqualizedConv2D):
    """`EqualizedConv2D`, then means of 2x2 pixels: as one convolution with stride 2."""

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height / 2, width / 2, filters)."""
        kernel = sum_of_shifts(self.scaled_kernel())
        return self.add_bias(convolution.convolve(inputs, kernel * ops.cast(0.25, kernel.dtype), 2))


@keras.saving.register_keras_serializable("zoo")
class EqualizedBlurDownConv2D(EqualizedConv2D):
    """[1, 3, 3, 1], then a convolution with stride 2 (StyleGAN2, arXiv:1912.04958).

    Args:
        filters: number of output channels.
        kernel_size: side of the kernel, 1 or 3.
        **options: of `Equalized`.

    Raises:
        ValueError: another kernel.
    """

    def __init__(self, filters: int, kernel_size: int, **options: Any):
        super().__init__(filters, kernel_size, **options)
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size={kernel_size}: choose 1 or 3.")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height / 2, width / 2, filters)."""
        if self.kernel_size == 1:
            # A convolution of 1x1 would pass over three of four filtered values: they are left out before.
            smaller = blur(inputs, TAPS, (1, 1), stride=2)
            return self.add_bias(convolution.convolve(smaller, self.scaled_kernel(), 1))
        filtered = blur(inputs, TAPS, DOWN_PADDING)
        return self.add_bias(ops.conv(filtered, self.scaled_kernel(), 2, "valid", CHANNELS_LAST))


def sum_of_shifts(kernel: Tensor) -> Tensor:
    """(n, n, in, out) -> (n + 1, n + 1, in, out): convolved with a box of 2x2."""
    padded = ops.pad(kernel, [(1, 1), (1, 1), (0, 0), (0, 0)])
    return padded[1:, 1:] + padded[1:, :-1] + padded[:-1, 1:] + padded[:-1, :-1]


@keras.saving.register_keras_serializable("zoo")
class PixelShuffle(keras.layers.Layer):
    """Channels become pixels: of factor^2 n channels, factor x factor pixels of n (ESPCN, arXiv:1609.05158, eq. 4).

    Pixel (i, j) of a block takes the channels from (i factor + j) n on: TensorFlow's and the paper's order. PyTorch's
    `PixelShuffle` takes every factor^2-th, from i factor + j on; the convolution before tells the two apart by the
    order of its filters alone. This one is a single DepthToSpace of ONNX, with runs of n numbers that stay together.

    Args:
        factor: of both sides.
    """

    def __init__(self, factor: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, factor^2 n) -> (batch, factor height, factor width, n)."""
        return ops.depth_to_space(inputs, self.factor, CHANNELS_LAST)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "factor": self.factor}


def resize_bicubic(images: Tensor, sides: tuple[int, int]) -> Tensor:
    """Images with other sides, by the bicubic kernel, widened where they shrink (antialiased): as Pillow's BICUBIC.

    As there, each of the two passes ends in 8-bit levels. Across comes first, then down; of images that are not square,
    Pillow 13 takes some the other way around, which tells where black meets white. No gradient flows through it.

    Args:
        images: (batch, height, width, channels) in [-1, 1], height and width known.
        sides: height and width of the result.

    Returns:
        (batch, *sides, channels), of the 256 levels n / 127.5 - 1.
    """
    dtype = keras.backend.standardize_dtype(images.dtype)
    across, down = (
        ops.convert_to_tensor(bicubic_weights(before, after), dtype)
        for before, after in zip(reversed(images.shape[1:3]), reversed(sides), strict=True)
    )
    levels = to_levels(ops.einsum("ow,bhwc->bhoc", across, 127.5 * (images + 1.0)))
    return to_levels(ops.einsum("oh,bhwc->bowc", down, levels)) / 127.5 - 1.0


def bicubic_weights(before: int, after: int) -> np.ndarray:
    """(after, before): what each of `after` pixels on a line takes of the `before` there were; every row sums to 1."""
    ratio = before / after
    centers = (np.arange(after) + 0.5) * ratio
    distances = np.abs(np.arange(before) + 0.5 - centers[:, None]) / max(ratio, 1.0)
    near = ((KEYS + 2.0) * distances - (KEYS + 3.0)) * distances**2 + 1.0
    far = KEYS * (((distances - 5.0) * distances + 8.0) * distances - 4.0)
    weights = np.where(distances < 1.0, near, np.where(distances < REACH, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def to_levels(values: Tensor) -> Tensor:
    """The nearest of 0, 1, ... 255, halves going up."""
    return ops.clip(ops.floor(values + 0.5), 0.0, 255.0)
