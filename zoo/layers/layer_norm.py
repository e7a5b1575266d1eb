"""Layer norm whose second derivatives are right, as a gradient penalty needs them."""

from typing import Any

import keras
from keras import ops

from zoo.core.types import Tensor


class LayerNorm(keras.layers.GroupNormalization):
    """Over all values of a row, with a scale and a shift per channel: maps (batch, height, width, channels) -> the same.

    `keras.layers.GroupNormalization` with one group gives the same values and the same gradient. Its second derivatives
    are wrong: it takes the variance by `tf.nn.moments`, around a mean that is held constant, which changes no first
    derivative since the values' distances from their mean sum to zero. `keras.layers.LayerNormalization` over the same
    axes would have a scale and a shift per pixel.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float, **kwargs: Any):
        super().__init__(groups=1, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        """Statistics are float32 where the inputs are half precision."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=(1, 2, 3), keepdims=True)
        scale = ops.rsqrt(variance + self.epsilon) * ops.cast(self.gamma, x.dtype)
        return ops.cast(x * scale + (ops.cast(self.beta, x.dtype) - mean * scale), self.compute_dtype)
