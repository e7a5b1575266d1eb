"""Maxout."""

from typing import Any

import keras
from keras import ops

from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class Maxout(keras.layers.Layer):
    """max over `pieces` affine maps, unit by unit (arXiv:1302.4389, eq. 2).

    Args:
        units: width of the output.
        pieces: affine maps per unit.
    """

    def __init__(self, units: int, pieces: int, kernel_initializer: Any = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.pieces = pieces
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel and the bias."""
        width = self.units * self.pieces
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, features) -> (batch, units)."""
        affine = ops.matmul(inputs, self.kernel) + self.bias
        return ops.max(ops.reshape(affine, (-1, self.units, self.pieces)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"units": self.units, "pieces": self.pieces, "kernel_initializer": initializer}
        return {**super().get_config(), **own}
