"""Keras' convolutions, computed and differentiated by `zoo.core.convolution` where their options allow."""

from typing import Any

import keras
from keras import ops

from zoo.core import convolution
from zoo.core.types import Tensor


def is_plain(layer: Any) -> bool:
    """Whether a layer has the options that `zoo.core.convolution` takes: square, "same", one group, channels last."""
    return (
        layer.padding == "same"
        and layer.data_format == "channels_last"
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "output_padding", None) is None
        and tuple(layer.dilation_rate) == (1, 1)
        and len({*layer.kernel_size}) == len({*layer.strides}) == 1
    )


@keras.saving.register_keras_serializable("zoo")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, the same function of its inputs and weights."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The linear part; inputs (batch, height, width, in), kernel (size, size, in, filters)."""
        if not is_plain(self):
            return super().convolution_op(inputs, kernel)
        return convolution.convolve(inputs, ops.convert_to_tensor(kernel), self.strides[0])


@keras.saving.register_keras_serializable("zoo")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, the same function of its inputs and weights."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The linear part; inputs (batch, height, width, in), kernel (size, size, filters, in)."""
        if not is_plain(self):
            return ops.conv_transpose(
                inputs,
                kernel,
                strides=list(self.strides),
                padding=self.padding,
                output_padding=self.output_padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            )
        return convolution.convolve_transposed(inputs, ops.convert_to_tensor(kernel), self.strides[0])

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, in) -> (batch, height * stride, width * stride, filters)."""
        outputs = self.convolution_op(inputs, self.kernel)
        outputs = ops.add(outputs, self.bias) if self.use_bias else outputs
        return outputs if self.activation is None else self.activation(outputs)
