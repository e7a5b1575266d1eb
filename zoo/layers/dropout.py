"""Dropout by the step's own noise."""

from typing import Any

import keras
from keras import ops

from zoo.core import context
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class Dropout(keras.layers.Layer):
    """Dropout whose mask is a function of seed, step and global row (see `noise`), not of the device.

    Keras' own draws the same mask on every replica.

    Args:
        rate: the probability that a value is set to zero, 0 <= rate < 1; the rest is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate={rate}: a dropout rate lies in [0, 1).")
        self.rate = rate

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """(batch, ...) -> (batch, ...), the identity unless training."""
        if not training or self.rate == 0.0:
            return inputs
        keep = context.active().draws.uniform(*inputs.shape[1:]) >= self.rate
        return inputs * ops.cast(keep, inputs.dtype) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}
