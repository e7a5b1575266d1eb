"""Layers that Keras lacks, or has in a form that breaks a contract of ours."""

from typing import Any

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA
from zoo.core.types import Tensor
from zoo.layers.convolution import Conv2D, Conv2DTranspose


def unit(vector: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """`vector` at length 1; where it is zero and has no direction, `otherwise`, or zero when not given."""
    length = ops.sqrt(ops.sum(ops.square(vector)))
    direction = vector / ops.where(length > 0, length, 1.0)
    return direction if otherwise is None else ops.where(length > 0, direction, otherwise)


def dense(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """The linear part of `keras.layers.Dense`."""
    return ops.matmul(inputs, kernel)


def convolution(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """The linear part of `Conv2D` and `Conv2DTranspose`."""
    return layer.convolution_op(inputs, kernel)


# Layer -> its linear part, and the axis of its kernel that counts output channels.
NORMALIZABLE = {
    keras.layers.Dense: (dense, -1),  # (in, out)
    Conv2D: (convolution, -1),  # (height, width, in, out)
    Conv2DTranspose: (convolution, -2),  # (height, width, out, in)
}


@keras.saving.register_keras_serializable("zoo")
class SpectralNorm(keras.layers.Wrapper):
    """A layer that uses W / sigma(W) in place of its kernel W (arXiv:1802.05957, section 2.1 and Algorithm 1).

    W is the kernel as a matrix, (everything else, output channels); sigma = v^T W u, its largest singular value, with
    u and v from power iteration and held constant, so that the gradient of a loss flows through sigma (eq. 12) and is
    orthogonal to W. `keras.layers.SpectralNormalization` overwrites W and sends no gradient through sigma; here W is
    only read.

    Each call with training=True makes one power iteration and keeps its u: a step that scores real and fake images
    in two calls makes two. Inference uses the u there is, as a moving average of the weights does with an averaged u:
    only u's direction counts. Before any training call u is random, and sigma too small.

    The next u, unit(W^T unit(W u)), is a function of W and u, which are the same on every replica, and not of the
    data: the replicas agree on it without a collective.

    Args:
        layer: Keras' Dense, or our Conv2D or Conv2DTranspose, channels last; its bias and activation are left alone.
        name: the wrapped layer's when not given.

    Raises:
        ValueError: another kind of layer.
    """

    def __init__(self, layer: keras.layers.Layer, name: str | None = None, **kwargs: Any):
        if type(layer) not in NORMALIZABLE or getattr(layer, "data_format", "channels_last") != "channels_last":
            good = sorted(kind.__name__ for kind in NORMALIZABLE)
            raise ValueError(f"layer={layer!r}: choose from {good}, with channels last.")
        kwargs.setdefault("dtype", layer.dtype_policy)
        # Without autocast the kernel is read as it is stored: sigma is no number for float16.
        super().__init__(layer, name=name or layer.name, autocast=False, **kwargs)
        self.linear, self.output_axis = NORMALIZABLE[type(layer)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layer and create u, of as many values as there are output channels."""
        super().build(input_shape)
        self.u = self.add_weight(
            shape=(self.layer.kernel.shape[self.output_axis],),
            initializer=lambda shape, dtype=None: unit(keras.initializers.RandomNormal()(shape, dtype)),
            trainable=False,
            aggregation=ONLY_FIRST_REPLICA,
            name="u",
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """What the wrapped layer takes -> what it gives."""
        kernel = ops.cast(self.normalized_kernel(bool(training)), self.compute_dtype)
        outputs = self.linear(self.layer, ops.cast(inputs, self.compute_dtype), kernel)
        if self.layer.use_bias:
            outputs = outputs + ops.cast(self.layer.bias, self.compute_dtype)
        return self.layer.activation(outputs)

    def normalized_kernel(self, iterate: bool = False) -> Tensor:
        """W / sigma(W), in the kernel's layout; a kernel of zeros as it is.

        Args:
            iterate: first make one power iteration, and keep its u.
        """
        kernel = ops.convert_to_tensor(self.layer.kernel)
        matrix = ops.reshape(ops.moveaxis(kernel, self.output_axis, -1), (-1, self.u.shape[0]))
        constant = ops.stop_gradient(matrix)
        u = unit(ops.convert_to_tensor(self.u))
        v = unit(ops.matmul(constant, u))
        if iterate:
            u = unit(ops.matmul(v, constant), otherwise=u)
            self.u.assign(u)
        sigma = ops.sum(v * ops.matmul(matrix, u))
        return kernel / ops.where(sigma > 0, sigma, 1.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The wrapped layer's."""
        return self.layer.compute_output_shape(input_shape)
