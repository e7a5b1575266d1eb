"""Layers with an equalized learning rate, and pixel norm (Progressive GAN, arXiv:1710.10196, sections 4.1 and 4.2).

Weights are drawn from N(0, 1) and scaled each time they are used, so that all have the same dynamic range: Adam, whose
step does not depend on the gradient's scale, then moves all at the same relative speed.
"""

from typing import Any

import keras
from keras import ops

from zoo.core import convolution
from zoo.core.types import Tensor

GAIN = 2**0.5  # of He's initializer, for what leaky ReLU follows


class Equalized(keras.layers.Layer):
    """Abstract base: kernel ~ N(0, 1) / rate, used as kernel * gain * rate / sqrt(fan_in); bias * rate.

    Args:
        gain: of the outputs' standard deviation, for inputs of 1.
        rate: learning-rate multiplier: how fast the weights learn, relative to those of layers with 1.
        use_bias: whether a bias per output channel is added.
        bias: what each bias is at the start, as it is used.
    """

    def __init__(self, gain: float = GAIN, rate: float = 1.0, use_bias: bool = True, bias: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not (gain > 0.0 and rate > 0.0):
            raise ValueError(f"gain={gain}, rate={rate}: choose numbers > 0.")
        self.gain = gain
        self.rate = rate
        self.use_bias = use_bias
        self.initial_bias = bias

    def add_parameters(self, shape: tuple[int, ...]) -> None:
        """Create the kernel, the last axis of `shape` its outputs, and the bias."""
        *inputs, outputs = shape
        fan_in = 1
        for size in inputs:
            fan_in *= size
        self.scale = self.gain * self.rate / fan_in**0.5
        normal = keras.initializers.RandomNormal(0.0, 1.0 / self.rate)
        self.kernel = self.add_weight(shape=shape, initializer=normal, name="kernel")
        self.bias = None
        if self.use_bias:
            start = keras.initializers.Constant(self.initial_bias / self.rate)
            self.bias = self.add_weight(shape=(outputs,), initializer=start, name="bias")

    def scaled_kernel(self) -> Tensor:
        """The kernel as it is used, in the layer's compute type."""
        kernel = ops.convert_to_tensor(self.kernel)
        return kernel * ops.cast(self.scale, kernel.dtype)

    def add_bias(self, outputs: Tensor) -> Tensor:
        """`outputs` plus the bias, where there is one."""
        if self.bias is None:
            return outputs
        bias = ops.convert_to_tensor(self.bias)
        return outputs + bias * ops.cast(self.rate, bias.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"gain": self.gain, "rate": self.rate, "use_bias": self.use_bias, "bias": self.initial_bias}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class EqualizedDense(Equalized):
    """A dense layer with an equalized learning rate.

    Args:
        units: number of outputs.
        **options: of `Equalized`.
    """

    def __init__(self, units: int, **options: Any):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the kernel, (features, units), and the bias."""
        self.add_parameters((input_shape[-1], self.units))

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, ..., features) -> (batch, ..., units)."""
        return self.add_bias(ops.matmul(inputs, self.scaled_kernel()))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class EqualizedConv2D(Equalized):
    """A convolution with padding "same", stride 1 and an equalized learning rate.

    Args:
        filters: number of output channels.
        kernel_size: side of the kernel.
        **options: of `Equalized`.
    """

    def __init__(self, filters: int, kernel_size: int, **options: Any):
        super().__init__(**options)
        self.filters = filters
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the kernel, (size, size, channels, filters), and the bias."""
        self.add_parameters((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height, width, filters)."""
        return self.add_bias(convolution.convolve(inputs, self.scaled_kernel(), 1))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("zoo")
class ChannelBias(keras.layers.Layer):
    """One number per channel, 0 at the start, added to every value of it."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the numbers, (channels,)."""
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, ..., channels) -> likewise."""
        return inputs + ops.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable("zoo")
class PixelNorm(keras.layers.Layer):
    """x / sqrt(mean of x^2 over the channels + epsilon): vectors of length sqrt(channels)  (section 4.2).

    Args:
        epsilon: added to the mean.
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, ..., channels) -> likewise; in the weights' precision within."""
        values = ops.cast(inputs, self.variable_dtype)
        scale = ops.rsqrt(ops.mean(ops.square(values), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(values * scale, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
