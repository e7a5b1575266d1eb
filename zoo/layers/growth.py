"""What fades a new resolution in while a network grows (Progressive GAN, arXiv:1710.10196, section 3)."""

from typing import Any

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class Growth(keras.layers.Layer):
    """(1 - alpha) low + alpha high, of what a network gives without and with its newest resolution.

    One layer a network, called once at each resolution that can be faded in. Its weight `level` says how far the
    network has grown: at 2 the first two resolutions above the lowest have come in, at 2.25 a quarter of the third.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.level = self.add_weight(
            shape=(), initializer="zeros", trainable=False, autocast=False, aggregation=ONLY_FIRST_REPLICA, name="level"
        )
        self.built = True

    def call(self, inputs: tuple[Tensor, Tensor], level: int) -> Tensor:
        """Exactly `low` where the network has grown to `level` - 1 or less, exactly `high` from `level` on.

        Args:
            inputs: low and high, of one shape.
            level: of the resolution that is faded in, 1 for the first above the lowest.
        """
        low, high = inputs
        alpha = ops.clip(self.level - (level - 1), 0.0, 1.0)  # in full precision: half has 256 steps for it
        wide = [ops.cast(each, self.variable_dtype) for each in (low, high)]
        return ops.cast((1.0 - alpha) * wide[0] + alpha * wide[1], self.compute_dtype)
