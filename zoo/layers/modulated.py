"""The convolution whose kernel a style scales (StyleGAN2, arXiv:1912.04958, section 2.2)."""

from typing import Any

import keras
from keras import ops

from zoo.core import convolution
from zoo.core.types import Tensor
from zoo.layers.equalized import EqualizedDense
from zoo.layers.resampling import CHANNELS_LAST, TAPS, UP_PADDING, blur

EPSILON = 1e-8


@keras.saving.register_keras_serializable("zoo")
class ModulatedConv2D(keras.layers.Layer):
    """w'_ijk = s_i w_ijk, w''_ijk = w'_ijk / sqrt(sum over i, k of w'_ijk^2 + epsilon)  (eq. 1 and 3).

    Not the kernel but the maps are scaled: the inputs by s, the outputs by the root, whose sum is a matrix product of
    s^2 and the sums over k of w^2. All rows share one kernel. The learning rate is equalized; s is an affine function
    of a style, 1 at the bias' start.

    Args:
        filters: number of output channels.
        kernel_size: side of the kernel.
        up: whether the sides are doubled: a transposed convolution of 3x3, stride 2, then the filter [1, 3, 3, 1].
        demodulate: whether there is a w'' (not so for `to_rgb`).
        gain: of the outputs.
        use_bias: whether a bias per output channel is added.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        up: bool = False,
        demodulate: bool = True,
        gain: float = 1.0,
        use_bias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if up and kernel_size != 3:
            raise ValueError(f"kernel_size={kernel_size}, up=True: choose 3, or up=False.")
        self.filters = filters
        self.kernel_size = kernel_size
        self.up = up
        self.demodulate = demodulate
        self.gain = gain
        self.use_bias = use_bias

    def build(self, input_shape: list[tuple[int, ...]]) -> None:
        """Create A, from the style to a scale per channel, and the kernel, (size, size, channels, filters)."""
        maps, style = input_shape
        channels = maps[-1]
        self.affine = EqualizedDense(channels, gain=1.0, bias=1.0, dtype=self.dtype_policy, name="affine")
        self.affine.build(style)
        shape = (self.kernel_size, self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=keras.initializers.RandomNormal(0.0, 1.0), name="kernel")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.scale = (self.kernel_size**2 * channels) ** -0.5

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Maps (batch, height, width, channels), style (batch, style_dim) -> maps, twice as large if `up`."""
        maps, style = inputs
        kernel = ops.convert_to_tensor(self.kernel)
        # The scale of the kernel's equalized learning rate goes into s: the kernel is used as it is stored.
        scales = ops.cast(self.affine(style), self.variable_dtype) * self.scale  # (batch, channels)
        factors = self.factors(scales) if self.demodulate else None  # (batch, filters)
        scales = scales if self.demodulate else scales * self.gain
        maps = maps * ops.cast(scales, maps.dtype)[:, None, None]
        if self.up:
            transposed = ops.transpose(kernel, (0, 1, 3, 2))
            maps = ops.conv_transpose(maps, transposed, 2, "valid", data_format=CHANNELS_LAST)
            maps = blur(maps, TAPS, UP_PADDING, gain=4.0)
        else:
            maps = convolution.convolve(maps, kernel, 1)
        if factors is not None:
            maps = maps * ops.cast(factors, maps.dtype)[:, None, None]
        return maps if self.bias is None else maps + self.bias

    def factors(self, scales: Tensor) -> Tensor:
        """What brings the kernel to norm `gain`, in full precision: (batch, channels) -> (batch, filters)."""
        squares = ops.sum(ops.square(ops.cast(self.kernel, self.variable_dtype)), axis=(0, 1))
        return self.gain * ops.rsqrt(ops.matmul(ops.square(scales), squares) + EPSILON)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """(batch, height, width, filters), height and width doubled if `up`."""
        rows, *sides, _ = input_shape[0]
        return (rows, *(side and side * (2 if self.up else 1) for side in sides), self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"filters": self.filters, "kernel_size": self.kernel_size, "up": self.up}
        return {
            **super().get_config(),
            **own,
            "demodulate": self.demodulate,
            "gain": self.gain,
            "use_bias": self.use_bias,
        }
