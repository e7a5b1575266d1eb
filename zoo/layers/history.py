"""Earlier samples for a discriminator to see again."""

from typing import Any

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA, gather_rows
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class ImageHistory(keras.layers.Layer):
    """A buffer of earlier samples that some of the new ones are exchanged for (arXiv:1612.07828, section 2.3).

    As in CycleGAN's code: the first samples fill it and pass. Once it is full, each passes with even odds; else it
    takes the place of one of the buffer's, drawn at random, which goes out in its stead. Samples come one after the
    other in the order of the global batch, so that several replicas keep the same buffer as one would.

    Args:
        size: images that it holds.
        image_shape: (height, width, channels).
    """

    def __init__(self, size: int, image_shape: tuple[int, int, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size
        self.image_shape = image_shape
        kept = {"initializer": "zeros", "trainable": False, "autocast": False, "aggregation": ONLY_FIRST_REPLICA}
        self.images = self.add_weight(**kept, shape=(size, *image_shape), name="images")
        self.count = self.add_weight(**kept, shape=(), dtype="int32", name="count")
        self.built = True

    def exchange(self, samples: Tensor, numbers: Tensor, rows: Tensor) -> Tensor:
        """What the discriminator is given in the place of new samples; the buffer takes them in.

        Args:
            samples: (batch, *image_shape), through which no gradient is meant to flow.
            numbers: uniform in [0, 1), (batch, 2): whether to exchange a sample, and for which.
            rows: (batch,) int64, the rows' numbers in the global batch.

        Returns:
            Likewise as `samples`.
        """
        samples = ops.cast(ops.stop_gradient(samples), self.images.dtype)
        everything = ops.concatenate([self.images.value, gather_rows(samples)], axis=0)
        numbers = gather_rows(numbers)
        exchanges = numbers[:, 0] > 0.5
        places = ops.minimum(ops.cast(numbers[:, 1] * self.size, "int32"), self.size - 1)
        total = ops.shape(numbers)[0]

        # Both are numbers of images in `everything`: what each place of the buffer holds, and what each row is given.
        def take_in(row: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            held, given, count = state
            new, full = self.size + row, count >= self.size
            place = ops.where(full, places[row], count)
            stored = ops.logical_or(ops.logical_not(full), exchanges[row])
            before = ops.take(held, place)
            out = ops.where(ops.logical_and(full, stored), before, new)
            held = ops.scatter_update(
                held, ops.reshape(place, (1, 1)), ops.reshape(ops.cast(ops.where(stored, new, before), "int32"), (1,))
            )
            given = ops.scatter_update(given, ops.reshape(row, (1, 1)), ops.reshape(ops.cast(out, "int32"), (1,)))
            return held, given, ops.cast(ops.minimum(count + 1, self.size), "int32")

        start = (ops.arange(self.size, dtype="int32"), ops.zeros((total,), "int32"), ops.convert_to_tensor(self.count))
        held, given, count = ops.fori_loop(0, total, take_in, start)
        self.images.assign(ops.take(everything, held, axis=0))
        self.count.assign(count)
        return ops.take(everything, ops.take(given, rows), axis=0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size, "image_shape": self.image_shape}
